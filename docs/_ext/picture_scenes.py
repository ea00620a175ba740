"""Scenes of losses that are no function of one number: maps, vectors, batches, boxes, sequences.

`SCENES` names for each such function what draws it. Arrows go where gradient descent takes things;
of a map of gradients the second colour is positive (descent lowers the number), the first negative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Polygon, Rectangle
from matplotlib.tri import Triangulation

import jaxloss
from jaxloss._drawing import limits
from jaxloss._planes import PLANES

# Colours that stand for those of the page.
INK, MUTED = "#010203", "#010204"
CURVES = tuple(f"#0a0b0{i}" for i in range(1, 7))


@dataclass(frozen=True)
class Scene:
    """One drawing.

    Attributes:
        paint: Draws on axes, as a thumbnail or not.
        title: What it shows.
        square: Whether both axes have one scale.
    """

    paint: Callable[[Axes, bool], None]
    title: str
    square: bool = False


def _arrow(axes: Axes, start: Any, step: Any, colour: str = INK, small: bool = False) -> None:
    """An arrow, unless it is too short to be seen."""
    if np.hypot(*step) > 1e-3:
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0}
        style |= {"linewidth": 0.9 if small else 1.3, "mutation_scale": 5 if small else 8}
        axes.annotate("", xy=np.add(start, step), xytext=start, arrowprops=style)


def _bare(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])


# Maps of numbers.


def heat(
    axes: Axes, numbers: Any, small: bool, x: str = "", y: str = "", signed: bool = False
) -> None:
    """Cells, the fuller the larger; negative ones in the first colour, positive in the second."""
    numbers = np.asarray(numbers, float)
    largest = np.nanmax(np.abs(numbers)) or 1.0
    rows, columns = numbers.shape
    for i, j in np.ndindex(rows, columns):
        share = abs(numbers[i, j]) / largest
        if not share > 0.02:
            continue
        colour = CURVES[1] if signed and numbers[i, j] > 0 else CURVES[0]
        cell = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, facecolor=colour, alpha=share**0.8)
        axes.add_patch(cell)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(True)
    if not small:
        axes.set(xlabel=x, ylabel=y)
        step = 1 if max(rows, columns) < 9 else 2
        axes.set(xticks=range(0, columns, step), yticks=range(0, rows, step))
        bounds = f"{np.nanmin(numbers):.2g} to {np.nanmax(numbers):.2g}"
        axes.text(1, 1.02, bounds, transform=axes.transAxes, ha="right", fontsize=8)


def maps(*found: tuple[str, Any, bool], x: str, y: str, over: Any = None) -> list[Scene]:
    """Scenes of numbers in cells.

    Args:
        *found: Title, numbers, and whether these have signs.
        x: What the columns are.
        y: What the rows are.
        over: Draws on top, of the axes.
    """

    def paint(numbers: Any, signed: bool, axes: Axes, small: bool) -> None:
        heat(axes, numbers, small, x, y, signed)
        if over is not None:
            over(axes)

    return [
        Scene(functools.partial(paint, numbers, signed), title) for title, numbers, signed in found
    ]


# Planes.

# Of losses of logits and of a distribution.
SOFTMAX = replace(PLANES["softmax_cross_entropy"], read=jnp.sum)
# Of these more is better, or neither.
UPHILL = ("linear_log_probs", "linear_token_statistics")


def shaded(axes: Axes, x: Any, y: Any, heights: Any, small: bool, even: bool = False) -> None:
    """The higher the fuller, in a few steps; `even` if each is to have as much room as the next."""
    count = 5 if small else 8
    found = limits([np.asarray(heights)])
    shown = np.ma.masked_invalid(np.clip(heights, *found) if found else heights)
    low, high = float(shown.min()), float(shown.max())
    if not high > low:
        return
    steps = np.linspace(low, high, count + 1)
    if even:
        steps = np.quantile(shown.compressed(), np.linspace(0, 1, count + 1))
    draw = axes.tricontourf if isinstance(x, Triangulation) else axes.contourf
    given = (x, np.asarray(shown.filled(high))) if y is None else (x, y, shown)
    for i in range(1, count):
        # One over the other: what is higher lies under more of them.
        draw(*given, levels=[steps[i], high + 1], colors=[CURVES[0]], alpha=0.55 / count + 0.03)


def plane(name: str) -> list[Scene]:
    """A loss over a plane that `plot_surface` knows."""
    what = PLANES.get(name, SOFTMAX)
    loss = _of(name)
    size = 49
    (low, high), (bottom, top) = what.domain
    grid = np.meshgrid(np.linspace(low, high, size), np.linspace(bottom, top, size))

    def height(x: Any, y: Any) -> Any:
        return what.read(loss(*what.of(x, y, what.target), **what.given))

    places = [jnp.asarray(side.ravel(), jnp.float32) for side in grid]
    heights, slopes = jax.jit(jax.vmap(jax.value_and_grad(height, (0, 1))))(*places)
    heights = np.asarray(heights).reshape(size, size)
    across, along = (np.asarray(slope).reshape(size, size)[3::6, 3::6] for slope in slopes)
    lengths = np.hypot(across, along)
    longest = np.nanmax(np.where(np.isfinite(lengths), lengths, 0)) or 1.0
    uphill = -1 if "similarity" in name or name in UPHILL else 1

    def paint(axes: Axes, small: bool) -> None:
        shaded(axes, *grid, heights, small)
        if small:
            return
        seen = (lengths > 0.04 * longest) & np.isfinite(lengths)
        scale = -uphill / longest * 0.9
        xs, ys = grid[0][3::6, 3::6], grid[1][3::6, 3::6]
        steps = across[seen] * scale, along[seen] * scale
        sized = {"scale": 11, "width": 0.006, "color": INK, "pivot": "mid"}
        axes.quiver(xs[seen], ys[seen], *steps, **sized)
        axes.set(xlabel=what.x.replace("{target}", f"{what.target:g}"), ylabel=_folded(what.y))
        for place, mark in _marks(name):
            axes.plot(*place, marker=mark, color=CURVES[1], markersize=6)

    arrows = "arrows: uphill" if uphill < 0 else "arrows: downhill"
    title = f"{arrows}, where training goes" if uphill > 0 else arrows
    if name.startswith("linear_") and "distillation" not in name:
        title = f"{arrows}; marks: the classes"
    return [Scene(paint, title, square=True)]


def _folded(text: str) -> str:
    return text.replace("; ", ";\n").replace(" with label", "\nwith label")


def _marks(name: str) -> list[tuple[tuple[float, float], str]]:
    """What stands still in a plane of vectors."""
    if "triplet" in name:
        return [((0, 0), "o"), ((1, 0), "s")]
    if "kl" in name:
        return [((1, 1), "o")]
    if name == "linear_distillation_loss":
        return [((1, 0), "o")]
    if name.startswith("linear_"):
        # The vectors of the classes, that of the right one first.
        layer = PLANES[name].of(0.0, 0.0, 0)[1]
        return [(tuple(vector), "os"[i > 0]) for i, vector in enumerate(np.asarray(layer).T)]
    still = ("cosine", "byol", "simsiam", "contrastive_loss")
    return [((1, 0), "o")] if name.startswith(still) else []


def _of(name: str) -> Callable[..., Any]:
    if name == "make_fenchel_young_loss":
        return jaxloss.make_fenchel_young_loss(logsumexp)
    return getattr(jaxloss, name)


# Distributions of three events.


def simplex(name: str) -> list[Scene]:
    """A divergence over all distributions of three events, for one target."""
    count = 28
    target = np.array([0.5, 0.3, 0.2], np.float32)
    inner = [(i, j) for i in range(count + 1) for j in range(count + 1 - i)]
    shares = np.array([(i, j, count - i - j) for i, j in inner], np.float32) / count
    shares = (shares + 0.004) / np.sum(shares + 0.004, 1, keepdims=True)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    x, y = (shares @ corners).T
    logs = "kl" in name
    given = np.log(shares) if logs else shares
    aim = np.log(target) if name.endswith("log_targets") else target
    options = {"alpha": 2.0} if name == "renyi_divergence" else {}
    heights = np.asarray(getattr(jaxloss, name)(given, np.tile(aim, (len(given), 1)), **options))

    def paint(axes: Axes, small: bool) -> None:
        shaded(axes, Triangulation(x, y), None, heights, small, even=True)
        axes.add_patch(Polygon(corners, fill=False, edgecolor=MUTED, linewidth=0.8))
        axes.plot(*(target @ corners), marker="o", color=CURVES[1], markersize=3 if small else 6)
        axes.set(xlim=(-0.2, 1.2), ylim=(-0.14, 1.0))
        _bare(axes)
        if not small:
            for corner, event in zip(corners, "ABC", strict=True):
                outward = 0.1 * (corner - corners.mean(0)) / 0.58
                axes.text(*(corner + outward), f"only {event}", ha="center", va="center")

    return [Scene(paint, "predictions of three events; dot: the target", square=True)]


# Batches of embeddings.


def circle(name: str) -> list[Scene]:
    """Embeddings of two labels on the unit circle, and where they are taken."""
    angles = np.radians([10.0, 60.0, 150.0, 95.0, 205.0, 300.0])
    labels = np.array([0, 0, 0, 1, 1, 1])
    points = np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)
    options: dict[str, Any] = {
        "circle_loss": {"gamma": 8.0},
        "multi_similarity_loss": {"beta": 8.0},
        "batch_triplet_loss": {"mining": "all"},
        "batch_contrastive_loss": {"pos_margin": 0.3, "neg_margin": 1.2},
    }.get(name, {"temperature": 0.5} if name in ("ntxent", "supervised_contrastive_loss") else {})

    def total(x: Any) -> Any:
        return jnp.sum(getattr(jaxloss, name)(x, labels, **options))

    steps = -np.asarray(jax.grad(total)(points))
    steps *= 0.6 / np.max(np.hypot(*steps.T))

    def paint(axes: Axes, small: bool) -> None:
        axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=MUTED, linewidth=0.6, alpha=0.5))
        for point, label, step in zip(points, labels, steps, strict=True):
            _arrow(axes, point, step, CURVES[label], small)
            marker = "os"[label]
            axes.plot(*point, marker=marker, color=CURVES[label], markersize=4 if small else 7)
        axes.set(xlim=(-1.5, 1.5), ylim=(-1.35, 1.35))
        _bare(axes)

    return [Scene(paint, "embeddings of two labels; arrows: downhill", square=True)]


def views(name: str) -> list[Scene]:
    """Two views of five things: similarities, and the gradient in each of them."""
    rng = np.random.default_rng(3)
    first = np.eye(5) + 0.55 * np.abs(rng.normal(size=(5, 5)))
    first = (first / np.linalg.norm(first, axis=1, keepdims=True)).astype(np.float32)
    second = np.eye(5, dtype=np.float32)
    options = {"info_nce_loss": {"temperature": 0.3}, "clip_loss": {"logit_scale": 5.0}}
    options |= {"siglip_loss": {"logit_scale": 5.0, "logit_bias": -2.0}}

    def total(similarities: Any) -> Any:
        return jnp.sum(getattr(jaxloss, name)(similarities, second, **options.get(name, {})))

    slopes = jax.grad(total)(first)
    kind = {"clip_loss": ("image", "text"), "siglip_loss": ("image", "text")}
    kind |= {"info_nce_loss": ("query", "key"), "n_pairs_loss": ("anchor", "positive")}
    y, x = kind[name]
    found = (
        (f"cosine of each {y} and {x}", first, True),
        ("gradient; blue: descent raises it", slopes, True),
    )
    return maps(*found, x=x, y=y)


def correlations(name: str) -> list[Scene]:
    """The correlations of the features of two views, before gradient descent and after it."""
    rng = np.random.default_rng(2)
    mixed = rng.normal(size=(24, 3)) @ rng.normal(size=(3, 6)) + 0.4 * rng.normal(size=(24, 6))
    other = mixed + 0.7 * rng.normal(size=mixed.shape)
    data = jnp.asarray(np.stack([mixed, other]), jnp.float32)
    loss, rate = getattr(jaxloss, name), 0.3 if name == "vicreg_loss" else 20.0

    @jax.jit
    def descend(x: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            return x - rate * jax.grad(lambda x: loss(x[0], x[1]))(x), None

        return jax.lax.scan(step, x, None, 400)[0]

    def between(pair: Any) -> np.ndarray:
        first, second = ((x - x.mean(0)) / x.std(0) for x in np.asarray(pair))
        return first.T @ second / len(first)

    before = "correlations of features across views, at first"
    found = (before, between(data), True), ("after 400 steps", between(descend(data)), True)
    return maps(*found, x="feature of one view", y="feature of the other")


def matrix(name: str) -> list[Scene]:
    """Each vector against each other."""
    angles = np.radians([0.0, 20.0, 45.0, 120.0, 150.0, 260.0])
    sizes = np.array([1.0, 1.6, 1.0, 1.3, 0.7, 1.0])
    points = (np.stack([np.cos(angles), np.sin(angles)], -1) * sizes[:, None]).astype(np.float32)
    numbers = np.asarray(getattr(jaxloss, name)(points))
    what = "distance" if name.endswith("distance") else "cosine"

    def paint(axes: Axes, small: bool) -> None:
        for i, point in enumerate(points):
            _arrow(axes, (0, 0), point, CURVES[0], small)
            if not small:
                axes.text(*(point * 1.15), str(i), ha="center", va="center")
        axes.set(xlim=(-1.6, 2.0), ylim=(-1.3, 1.4))
        _bare(axes)

    cells = maps((f"{what} of each two", numbers, True), x="vector", y="vector")
    return [*cells, Scene(paint, "the vectors", square=True)]


# Lists of documents.


def documents(name: str) -> list[Scene]:
    """Documents by score, with their labels, and where their scores are taken."""
    scores = np.array([2.0, 1.2, 0.9, 0.1, -0.6], np.float32)
    labels = np.array([0.0, 2.0, 0.0, 1.0, 3.0], np.float32)
    options = {"temperature": 0.5} if name.startswith("approx") else {}

    def total(x: Any) -> Any:
        return jnp.sum(getattr(jaxloss, name)(x, labels, **options))

    steps = -np.asarray(jax.grad(total)(scores))
    steps *= 1.0 / np.max(np.abs(steps))

    def paint(axes: Axes, small: bool) -> None:
        for i, (score, label) in enumerate(zip(scores, labels, strict=True)):
            axes.bar(i, score + 1.5, bottom=-1.5, color=CURVES[0], alpha=0.15 + 0.2 * label)
            _arrow(axes, (i, score), (0, steps[i]), CURVES[1], small)
        axes.set(ylim=(-1.7, 3.2), xlim=(-0.6, 4.6))
        if not small:
            axes.set(ylabel="score", xlabel="label of the document")
            axes.set_xticks(range(5), [f"{label:g}" for label in labels])

    return [Scene(paint, "five documents; arrows: downhill")]


def pair_weights(name: str) -> list[Scene]:
    """The weight of each pair of documents."""
    scores = np.array([2.0, 1.2, 0.9, 0.1, -0.6], np.float32)
    labels = np.array([0.0, 2.0, 0.0, 1.0, 3.0], np.float32)
    found = [
        (
            f'weights of pairs, kind="{kind}"',
            jaxloss.lambda_weights(scores, labels, kind=kind),
            True,
        )
        for kind in ("ndcg", "ndcg2")
    ]

    def labelled(axes: Axes) -> None:
        if len(axes.get_xticks()):
            names = [f"{label:g}" for label in labels]
            axes.set_xticks(range(5), names)
            axes.set_yticks(range(5), names)

    x = "label of the document, by score"
    return maps(*found, x=x, y="label of the other", over=labelled)


# Boxes.


def _outline(axes: Axes, box: Any, colour: str, dashed: bool = False) -> None:
    x1, y1, x2, y2 = map(float, box)
    style = {"edgecolor": colour, "linewidth": 1.6, "linestyle": "--" if dashed else "-"}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=colour, alpha=0.12))


def boxes(name: str) -> list[Scene]:
    """A predicted box that overlaps the true one, and one that lies apart."""
    true = np.array([0.0, 0.0, 2.0, 2.0], np.float32)
    cases = {"a box that overlaps": [0.9, 0.7, 3.6, 2.2], "a box apart": [2.7, 0.6, 4.3, 2.6]}
    loss = getattr(jaxloss, name)
    sign = 1 if name == "box_iou" else -1

    def paint(box: Any, slopes: Any, axes: Axes, small: bool) -> None:
        _outline(axes, true, CURVES[0], dashed=True)
        _outline(axes, box, CURVES[1])
        steps = sign * slopes * (0.8 / max(np.max(np.abs(slopes)), 1e-9))
        for i, j in np.ndindex(2, 2):
            corner = box[2 * i], box[2 * j + 1]
            _arrow(axes, corner, (steps[2 * i], steps[2 * j + 1]), INK, small)
        axes.set(xlim=(-0.9, 5.0), ylim=(-0.7, 3.1))
        _bare(axes)
        if not small:
            axes.text(0.1, -0.1, "true", va="top")
            axes.text(box[2], box[3] + 0.1, "predicted", ha="right", va="bottom")

    scenes = []
    for title, corners in cases.items():
        box = np.array(corners, np.float32)
        value, slopes = jax.value_and_grad(loss)(box, true)
        word = "IoU" if name == "box_iou" else "loss"
        painted = functools.partial(paint, box, np.asarray(slopes))
        scenes.append(Scene(painted, f"{title}: {word} {float(value):.2f}", square=True))
    return scenes


def coding(name: str) -> list[Scene]:
    """An anchor, a box, and the four numbers between them."""
    anchor = np.array([0.0, 0.0, 2.0, 1.6], np.float32)
    box = np.array([1.4, 0.7, 4.4, 2.6], np.float32)
    code = np.asarray(jaxloss.encode_boxes(box, anchor))
    if name == "decode_boxes":
        box = np.asarray(jaxloss.decode_boxes(code, anchor))

    def paint(axes: Axes, small: bool) -> None:
        _outline(axes, anchor, CURVES[0], dashed=True)
        _outline(axes, box, CURVES[1])
        centres = [(x[:2] + x[2:]) / 2 for x in (anchor, box)]
        _arrow(axes, centres[0], centres[1] - centres[0], INK, small)
        axes.set(xlim=(-0.3, 5.0), ylim=(-1.0, 3.0))
        _bare(axes)
        if not small:
            axes.text(0.1, 1.65, "anchor")
            axes.text(4.4, 2.65, "box", ha="right")
            shift, scale = code[:2], code[2:]
            told = "code: shift {:.2f}, {:.2f} in sides of the anchor;\nlog of scale {:.2f}, {:.2f}"
            axes.text(-0.2, -0.2, told.format(*shift, *scale), va="top")

    return [Scene(paint, "an anchor, a box, and the code between them", square=True)]


# Images.


def segmentation(name: str) -> list[Scene]:
    """A predicted map and its gradient, with the outline of the object."""
    rows, columns = np.mgrid[0:8, 0:8]
    thing = ((rows - 3.4) ** 2 + (columns - 3.2) ** 2 < 5.5).astype(np.float32)
    rng = np.random.default_rng(1)
    guess = 3.0 - 0.55 * ((rows - 4.2) ** 2 + (columns - 4.4) ** 2) ** 0.9
    logits = jnp.asarray(np.clip(guess + 0.5 * rng.normal(size=(8, 8)), -4, 4), jnp.float32)
    loss = getattr(jaxloss, name)
    alone = name in ("binary_dice_loss", "lovasz_hinge_loss")
    options: dict[str, Any] = {"alpha": 0.3, "beta": 0.7} if "tversky" in name else {}

    def total(x: Any) -> Any:
        if alone:
            return jnp.sum(loss(x[None], thing[None]))
        both = jnp.stack([jnp.zeros_like(x), x], -1)[None]
        return jnp.sum(loss(both, thing[None].astype(np.int32), **options))

    slopes = jax.grad(total)(logits)

    def outline(axes: Axes) -> None:
        for (i, j), inside in np.ndenumerate(thing):
            for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if inside and not thing[i + di, j + dj]:
                    y, x = i + di / 2, j + dj / 2
                    ends = ([x, x], [y - 0.5, y + 0.5]) if dj else ([x - 0.5, x + 0.5], [y, y])
                    axes.plot(*ends, color=INK, linewidth=1.2, solid_capstyle="round")

    shares = jax.nn.sigmoid(logits)
    found = (
        ("probability; outline: the object", shares, False),
        ("gradient; blue: descent raises it", slopes, True),
    )
    return maps(*found, x="column of pixels", y="row", over=outline)


# Sequences.


def spoken() -> tuple[Any, ...]:
    """Logits of eight frames of a blank and three symbols, which spell 1 and 2."""
    logits = np.zeros((8, 4), np.float32)
    for frame, symbol in enumerate([0, 1, 1, 0, 3, 2, 2, 0]):
        logits[frame, symbol] = 1.6
    logits[4, 2] = 1.2
    return logits, np.zeros(8, np.float32), np.array([1, 2]), np.zeros(2, np.float32)


def frames(name: str) -> list[Scene]:
    """What each frame says, and what it should say for the labels to be spelt."""
    logits, *rest = spoken()
    predicted = jax.nn.softmax(logits)
    if name == "ctc_loss":
        slopes = jax.grad(lambda x: jaxloss.ctc_loss(x, *rest))(logits)
        found = (
            ("predicted, of the labels 1, 2", predicted.T, False),
            ("the share of each path through them", (predicted - slopes).T, False),
            ("gradient; blue: descent raises it", slopes.T, True),
        )
        return maps(*found, x="frame", y="symbol; 0: blank")
    _, blanks, labels = jaxloss.ctc_loss_with_forward_probs(logits, *rest)
    states = np.stack([blanks[:, 0], labels[:, 0], blanks[:, 1], labels[:, 1], blanks[:, 2]])
    found = (("how probable each state is so far", np.exp(states), False),)

    def named(axes: Axes) -> None:
        if len(axes.get_yticks()):
            axes.set_yticks(range(5), ["blank", "1", "blank", "2", "blank"])

    return maps(*found, x="frame", y="", over=named)


def tokens(name: str) -> list[Scene]:
    """A model's probabilities of tokens, those of the sequence marked, and the gradient."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(0, 1.3, (6, 5)), jnp.float32)
    said = np.array([2, 0, 4, 1, 3, 0])
    slopes = jax.grad(lambda x: getattr(jaxloss, name)(x, said))(logits)

    def marked(axes: Axes) -> None:
        for place, token in enumerate(said):
            axes.plot(place, token, marker="o", color=INK, markersize=3)

    shares = jax.nn.softmax(logits)
    found = (
        ("probability; dots: the tokens", shares.T, False),
        ("gradient in logits", slopes.T, True),
    )
    return maps(*found, x="place in the sequence", y="token", over=marked)


# Batches in parts.


def parts(name: str) -> list[Scene]:
    """A loss of a batch and its slope: of the whole, in parts that are added, and in their mean."""
    x = np.linspace(-1.5, 2.5, 97).astype(np.float32)
    found = jax.jit(jax.vmap(_in_microbatches if name.startswith("accumulate") else _in_chunks))(x)
    labels = ("whole batch", "here", "mean of parts")

    def paint(order: int, axes: Axes, small: bool) -> None:
        whole, added, averaged = (np.asarray(curve[order]) for curve in found)
        axes.plot(x, whole, color=CURVES[0], label=labels[0])
        dots = {"marker": "o", "linestyle": "", "markersize": 2 if small else 4}
        axes.plot(x[::6], added[::6], color=CURVES[1], label=labels[1], **dots)
        axes.plot(x, averaged, color=CURVES[2], linestyle="--", label=labels[2])
        if small:
            return
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        axes.set_xlabel("a parameter")
        if order == 0:
            place = {"loc": "lower left", "bbox_to_anchor": (-0.12, 0.99), "ncols": 3}
            axes.legend(frameon=False, handlelength=1.2, columnspacing=0.7, **place)

    titles = "loss of a batch in four parts", "its gradient"
    return [Scene(functools.partial(paint, i), title) for i, title in enumerate(titles)]


def _in_microbatches(x: Any) -> Any:
    """A regression whose four microbatches have 1, 2, 4 and 8 targets."""
    inputs = np.random.default_rng(4).uniform(0.5, 1.5, 32).astype(np.float32)
    # Microbatch m has the examples m, m + 4, ...: those of the fewer targets want the most.
    microbatch = np.arange(32) % 4
    targets = inputs * np.array([2.0, 1.5, 0.5, 0.0], np.float32)[microbatch]
    known = np.arange(32) // 4 < 2**microbatch

    def loss_fn(x: Any, inputs: Any, targets: Any, known: Any) -> jaxloss.Mean:
        return jaxloss.Mean.of(jaxloss.l2_loss, x * inputs, targets, where=known)

    def own(x: Any, inputs: Any, targets: Any, known: Any) -> Any:
        return loss_fn(x, inputs, targets, known).value()

    batch = inputs, targets, known
    added = jaxloss.accumulate_value_and_grad(loss_fn, 4)(x, *batch)
    return _three(x, own, batch, added)


def _in_chunks(x: Any) -> Any:
    """CLIP's loss of eight pairs, whose negatives are those of the batch, or of a chunk."""
    rng = np.random.default_rng(5)
    images = rng.normal(size=(8, 3)).astype(np.float32)
    texts = images + 0.6 * rng.normal(size=(8, 3)).astype(np.float32)

    def encode(x: Any, images: Any, texts: Any) -> tuple[Any, Any]:
        return images + x * jnp.flip(images, -1), texts

    def loss_fn(x: Any, both: Any) -> Any:
        return jaxloss.clip_loss(*both, logit_scale=4.0, reduction="mean")

    def own(x: Any, images: Any, texts: Any) -> Any:
        return loss_fn(x, encode(x, images, texts))

    batch = images, texts
    return _three(x, own, batch, jaxloss.cached_value_and_grad(encode, loss_fn, 4)(x, *batch))


def _three(x: Any, own: Callable[..., Any], batch: Sequence[Any], added: Any) -> Any:
    """Value and slope of the whole batch, as they are added, and as the mean of four parts."""
    split = [np.stack([array[i::4] for i in range(4)]) for array in batch]
    each = [jax.value_and_grad(own)(x, *(array[i] for array in split)) for i in range(4)]
    mean = jax.tree.map(lambda *found: sum(found) / 4, *each)
    return jax.value_and_grad(own)(x, *batch), added, mean


# Labels.


def labels_of_lists(name: str) -> list[Scene]:
    """Lists of class numbers, and the labels that they become."""
    lists = np.array([[3, 0, -1], [1, -1, -1], [4, 2, 0]])
    numbers = jaxloss.multi_hot(lists, 5)

    def named(axes: Axes) -> None:
        if len(axes.get_yticks()):
            axes.set_yticks(range(3), [" ".join(map(str, row)) for row in lists], fontsize=7)

    drawn = maps(("labels; -1 ends a list", numbers, False), x="class", y="", over=named)
    return [Scene(scene.paint, scene.title, square=True) for scene in drawn]


def label_bars(name: str) -> list[Scene]:
    """Labels before and after."""
    one = np.eye(4, dtype=np.float32)[1]
    rows = {"alpha = 0": one} | {
        f"alpha = {alpha}": np.asarray(jaxloss.smooth_labels(one, alpha)) for alpha in (0.2, 0.4)
    }

    def paint(axes: Axes, small: bool) -> None:
        for i, (label, numbers) in enumerate(rows.items()):
            x = np.arange(4) + 0.27 * (i - 1)
            axes.bar(x, numbers, 0.24, color=CURVES[i], label=label)
        if not small:
            axes.set(xlabel="class", ylabel="label", xticks=range(4))
            axes.legend(frameon=False)

    return [Scene(paint, "labels of four classes")]


def _each(names: str, scene: Callable[[str], list[Scene]]) -> dict[str, Any]:
    return dict.fromkeys(names.split(), scene)


SCENES: dict[str, Callable[[str], list[Scene]]] = {
    **dict.fromkeys(PLANES, plane),
    "make_fenchel_young_loss": plane,
    **_each("kl_divergence kl_divergence_with_log_targets jensen_shannon_divergence", simplex),
    **_each("total_variation_distance hellinger_distance renyi_divergence", simplex),
    **_each("ntxent supervised_contrastive_loss multi_similarity_loss circle_loss", circle),
    **_each("lifted_structure_loss batch_triplet_loss batch_contrastive_loss", circle),
    **_each("clip_loss siglip_loss info_nce_loss n_pairs_loss", views),
    **_each("barlow_twins_loss vicreg_loss", correlations),
    **_each("pairwise_distance pairwise_similarity", matrix),
    **_each(
        "listmle_loss listnet_loss neural_sort_loss poly1_softmax_loss ranking_softmax_loss "
        "unique_softmax_loss",
        documents,
    ),
    **_each("approx_mrr_loss approx_ndcg_loss", documents),
    **_each("pairwise_hinge_loss pairwise_logistic_loss pairwise_mse_loss", documents),
    "lambda_weights": pair_weights,
    **_each("box_iou iou_loss giou_loss diou_loss ciou_loss", boxes),
    **_each("encode_boxes decode_boxes", coding),
    **_each("dice_loss jaccard_loss tversky_loss focal_tversky_loss", segmentation),
    **_each("binary_dice_loss multiclass_generalized_dice_loss", segmentation),
    **_each("generalized_dice_loss matthews_correlation_loss", segmentation),
    **_each("lovasz_hinge_loss lovasz_softmax_loss", segmentation),
    **_each("ctc_loss ctc_loss_with_forward_probs", frames),
    **_each("sequence_log_probabilities sequence_log_odds", tokens),
    **_each("accumulate_value_and_grad cached_value_and_grad", parts),
    "multi_hot": labels_of_lists,
    "smooth_labels": label_bars,
}

_NOT_FIRST: Sequence[Callable[[str], list[Scene]]] = (plane,)
# Those whose thumbnail is their scene.
FIRST = frozenset(
    name
    for name, scene in SCENES.items()
    if scene not in _NOT_FIRST or "triplet" in name or name == "contrastive_loss"
)
