"""Pictures of losses: theirs, yours, and both in one.

Needs matplotlib: `pip install "jaxloss[plot]"`.

    from jaxloss.plotting import plot_loss
    plot_loss(jaxloss.huber_loss, delta=[0.5, 1.0, 2.0]).savefig("huber.png")

Curves are measured, not known: kinks, thresholds and jumps are found by halving each gap of the
grid towards its greater difference, and slopes are those of `jax.grad`, also exactly at a kink.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ._asked import (
    Loss,
    check_options,
    curves_of,
    label_of,
    line_of,
    measured,
    one,
    own,
    pair_of_numbers,
    parameters_of,
    refusal,
    usual,
    with_target,
)
from ._contract.inputs import shown
from ._line import Domain, Line
from ._lines import ALONE, ERROR, LINES
from ._planes import PLANES, Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_loss", "plot_surface"]

Panel = Literal["value", "gradient", "curvature"]
PANELS: tuple[Panel, ...] = get_args(Panel)


def plot_loss(
    *losses: Loss,
    panels: Panel | Sequence[Panel] = PANELS,
    target: float | list[float] | None = None,
    domain: Domain | None = None,
    of: Callable[[jax.Array], Any] | None = None,
    names: Sequence[str] | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    points: int = 401,
    **hyperparameters: Any,
) -> Figure:
    """Draw losses along a line: the value, its slope and its curvature.

    A loss of jaxloss knows its line: the error for regression, the score for yes-or-no questions,
    the logit of the right class, the angle between two vectors, the shift of a box. Another loss
    is drawn along that of its neighbours, or else as loss(error, 0), or loss(score, 1) if its
    second parameter is called `labels`, with scores of three classes if it is called `label`, or
    as loss(x) if there is none.

    A dot is the height exactly where a curve jumps: that of the slope at a kink is what `jax.grad`
    gives there. A short bar on a curve marks where it bends: kinks of the value, thresholds of the
    slope (these are found if the curvature is among the panels). Jumps are not joined, and what
    is not finite is left out.

    Args:
        *losses: Functions that JAX can trace, or partials of them.
        panels: Which of "value", "gradient" and "curvature" are drawn, side by side.
        target: The target or label that the losses are drawn for; a list for a curve each.
        domain: From where to where the axis goes.
        of: What a place on the axis means, if not the usual: takes a number to the arguments of the
            losses, such as `lambda x: (jnp.stack([x, 0.0]), 0)`.
        names: What the legend calls the losses.
        axes: Axes of matplotlib to draw on, one for each panel, instead of a new figure.
        points: How many points a curve has.
        **hyperparameters: Given to each loss that takes them; a list draws a curve for each of its
            values, several lists one for each combination.

    Returns:
        The figure, which a notebook shows; `savefig` writes it.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        TypeError: If what is to be drawn is no function, or takes no such hyperparameter.
        ValueError: If a loss cannot be drawn so, with the reason.

    Example:
        >>> figure = plot_loss(jaxloss.l1_loss, jaxloss.huber_loss, delta=[0.5, 1.0], points=51)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['l1_loss', 'huber_loss, delta = 0.5', 'huber_loss, delta = 1']
    """
    drawing = _drawing()
    chosen = _panels(panels)
    _check_losses("plot_loss", losses)
    _check_count("points", points, 3)
    orders = max(PANELS.index(panel) for panel in chosen) + 1
    curves = curves_of(losses, of, target, domain, names, hyperparameters)
    picture, places = _places(drawing, axes, len(chosen))
    drawn = measured(curves, orders, points)
    for curve, line in zip(drawn, curves, strict=True):
        _check_seen(line.label, line.axis, curve.orders[0])
    styles = drawing.looks(len(drawn))
    for panel, place in zip(chosen, places, strict=True):
        order = PANELS.index(panel)
        for curve, line, look in zip(drawn, curves, styles, strict=True):
            drawing.draw(place, order, curve, look, line.label)
        title = curves[0].line.y if panel == "value" else panel
        drawing.furnish(place, title, curves[0].axis, [curve.orders[order] for curve in drawn])
    if len(curves) > 1:
        places[0].legend(fontsize=8, framealpha=0.6)
    elif axes is None:
        picture.suptitle(curves[0].label, fontsize=11)
    return picture


def plot_surface(
    loss: Loss,
    *,
    against: str | None = None,
    target: float | None = None,
    domain: tuple[Domain, Domain] | None = None,
    of: Callable[[jax.Array, jax.Array], Any] | None = None,
    arrows: bool = True,
    levels: int = 14,
    axes: Axes | None = None,
    points: int = 121,
    **hyperparameters: Any,
) -> Figure:
    """Draw a loss over a plane: filled contours, and arrows where gradient descent goes.

    A loss of two vectors is drawn over the place of the first one, a loss of scores over two of
    them, any other over its line (see `plot_loss`) and its target. `against` takes a hyperparameter
    for the upright axis.

    Args:
        loss: A function that JAX can trace.
        against: The name of a hyperparameter that the upright axis shows.
        target: The target or label that the loss is drawn for.
        domain: From where to where both axes go, the level one first.
        of: What a place means, if not the usual: takes two numbers to the arguments of the loss.
        arrows: Whether to draw them: the steepest place has the longest.
        levels: About how many contours there are.
        axes: Axes of matplotlib to draw on, instead of a new figure.
        points: How many points a side of the grid has.
        **hyperparameters: Given to the loss.

    Returns:
        The figure, which a notebook shows; `savefig` writes it.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        TypeError: If what is to be drawn is no function, or takes no such hyperparameter.
        ValueError: If the loss cannot be drawn so, with the reason.

    Example:
        >>> figure = plot_surface(jaxloss.huber_loss, against="delta", points=11)
        >>> figure.axes[0].get_ylabel()
        'delta'
    """
    drawing = _drawing()
    _check_losses("plot_surface", (loss,))
    _check_count("points", points, 3)
    _check_count("levels", levels, 1)
    plane, options = _plane(loss, of, against, target, hyperparameters)
    sides = domain or plane.domain
    if not (isinstance(sides, Sequence) and len(sides) == 2):
        raise ValueError(f"domain must be two pairs of numbers, got {shown(domain)}")
    x, y = (np.linspace(*pair_of_numbers("domain", side), points) for side in sides)
    grid = np.meshgrid(x, y)
    heights, slopes = _surface(loss, plane, options, grid)
    _check_seen(label_of(loss, {}), f"{plane.x}, {plane.y}", heights)
    picture, (place,) = _places(drawing, axes, 1, width=5.2, height=4.2)
    drawing.shade(place, tuple(grid), heights, levels)
    if arrows:
        step = max(1, points // 12)
        few = slice(step // 2, None, step)
        across, along = (slope[few, few] for slope in slopes)
        drawing.arrows(place, grid[0][few, few], grid[1][few, few], across, along)
    place.set(xlabel=with_target(plane.x, plane.target), ylabel=with_target(plane.y, plane.target))
    place.set_title(label_of(loss, {}, plane.against), loc="left", fontsize=10)
    return picture


def _drawing() -> Any:
    try:
        from . import _drawing as drawing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        missing = "jaxloss.plotting draws with matplotlib, which is missing"
        message = f"{missing}: pip install 'jaxloss[plot]'"
        raise ModuleNotFoundError(message, name="matplotlib") from None
    return drawing


def _check_losses(caller: str, losses: Sequence[Any]) -> None:
    if not losses:
        raise TypeError(f"{caller} needs a loss to draw")
    for loss in losses:
        if not callable(loss):
            ours = isinstance(loss, str) and loss in LINES
            advice = f"; write jaxloss.{loss}" if ours else ""
            raise TypeError(f"a loss must be a function, got {shown(loss)}{advice}")


def _check_count(name: str, value: Any, least: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {shown(value)}")


def _check_seen(label: str, axis: str, heights: np.ndarray) -> None:
    """Refuse a curve of which nothing could be seen, as of a hyperparameter out of its domain."""
    if not np.any(np.isfinite(heights)):
        raise ValueError(f"{label} cannot be drawn along {axis!r}: it is finite nowhere there")


def _panels(panels: Any) -> list[str]:
    several = isinstance(panels, Sequence | set) and not isinstance(panels, str)
    chosen: list[Any] = list(panels) if several else [panels]
    for panel in chosen or [()]:
        if panel not in PANELS:
            known = ", ".join(map(repr, PANELS))
            raise ValueError(f"panels must be some of {known}, got {panel!r}")
    return chosen


def _places(drawing: Any, axes: Any, count: int, **size: float) -> tuple[Any, Sequence[Any]]:
    """The figure and its axes, new or given."""
    if axes is None:
        return drawing.figure(count, **size)
    given = list(np.ravel(np.asarray(axes, object)))
    if len(given) != count or not all(hasattr(place, "plot") for place in given):
        raise ValueError(f"axes must be {count} of matplotlib's Axes, one for each panel")
    return given[0].figure, given


def _plane(
    loss: Loss,
    of: Callable[[jax.Array, jax.Array], Any] | None,
    against: str | None,
    target: Any,
    options: Mapping[str, Any],
) -> tuple[Plane, Mapping[str, Any]]:
    """The plane that a loss is drawn over, and its hyperparameters."""
    check_options([loss], {**options, **({against: 0} if against else {})})
    if of is not None:
        if against is not None or target is not None:
            raise TypeError("of says what both axes mean: leave against and target out")

        def arguments(x: jax.Array, y: jax.Array, _: Any) -> tuple[Any, ...]:
            found = of(x, y)
            return found if isinstance(found, tuple) else (found,)

        return Plane(arguments, "x", "y", ((-3.0, 3.0), (-3.0, 3.0))), options
    if against is None and own(loss) in PLANES:
        plane = PLANES[own(loss)]
        plane = replace(plane, target=plane.target if target is None else target)
        return plane, {**usual(loss, plane.given), **options}
    line = line_of(loss, ())
    aim = line.target if target is None else target
    given = {**usual(loss, line.given), **options}
    if against is None:
        return _with_target_up(loss, line), given
    parameters = parameters_of(loss)
    if against in list(parameters)[: len(line.of(line.domain[0], aim))]:
        raise ValueError(
            f"against must name a hyperparameter of {label_of(loss, {})}, not its data"
        )
    middle = given.pop(against, parameters[against].default if against in parameters else 1.0)
    middle = middle if isinstance(middle, int | float) and middle > 0 else 1.0
    sides = line.domain, (0.1 * middle, 3.0 * middle)
    return Plane(
        lambda x, _, t: line.of(x, t), line.x, against, sides, aim, read=line.read, against=against
    ), given


def _with_target_up(loss: Loss, line: Line) -> Plane:
    """The plane of what a line moves, and its target."""
    if not isinstance(line.target, float) or line.of is ALONE.of:
        raise ValueError(f"{label_of(loss, {})} has no usual plane: against= or of= gives it one")
    both = line.domain, line.domain
    if line.x == ERROR.x:
        return Plane(lambda x, y, _: (x, y), "prediction", "target", both, read=line.read)
    x = with_target(line.x, "y")
    return Plane(lambda x, y, _: line.of(x, y), x, "y: the target or label", both, read=line.read)


def _surface(
    loss: Loss, plane: Plane, options: Mapping[str, Any], grid: Sequence[np.ndarray]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    def height(x: jax.Array, y: jax.Array) -> jax.Array:
        given = {**options, plane.against: y} if plane.against else options
        data = plane.of(x, y, plane.target)
        return plane.read(one(loss(*data, **given), data))

    places = [jnp.asarray(side.ravel(), jnp.result_type(float)) for side in grid]
    try:
        heights, slopes = jax.jit(jax.vmap(jax.value_and_grad(height, (0, 1))))(*places)
    except Exception as error:
        raise refusal(loss, f"{plane.x}, {plane.y}", error) from None
    shape = grid[0].shape
    across, along = (np.asarray(slope, float).reshape(shape) for slope in slopes)
    return np.asarray(heights, float).reshape(shape), (across, along)
