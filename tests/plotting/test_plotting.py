"""Pictures show the numbers of the losses, and refuse what they cannot draw in one line."""

from __future__ import annotations

import builtins
import functools
import pickle
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

import jaxloss
from jaxloss import _drawing
from jaxloss._lines import LINES
from jaxloss._planes import PLANES
from jaxloss.plotting import plot_loss, plot_surface
from tests.laws.public import LOSSES

FEW: dict[str, Any] = {"points": 31}


def legend(figure: Figure) -> list[str]:
    box = figure.axes[0].get_legend()
    return [text.get_text() for text in box.get_texts()] if box else []


def lines(figure: Figure, panel: int = 0) -> list[np.ndarray]:
    """The curves of a panel, without dots and bars."""
    drawn = [line for line in figure.axes[panel].get_lines() if line.get_linestyle() != "None"]
    return [np.asarray(line.get_xydata()) for line in drawn]


def dots(figure: Figure, panel: int, marker: str = "o") -> list[tuple[float, float]]:
    found = [line for line in figure.axes[panel].get_lines() if line.get_marker() == marker]
    return [(float(x), float(y)) for line in found for x, y in np.asarray(line.get_xydata())]


def test_what_is_drawn_is_the_loss() -> None:
    figure = plot_loss(jaxloss.huber_loss, delta=0.5, **FEW)
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "gradient", "curvature"]
    ((curve,), (slope,)) = (lines(figure, panel) for panel in (0, 1))
    np.testing.assert_allclose(
        curve[:, 1], jaxloss.huber_loss(curve[:, 0], delta=0.5), rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(slope[:, 1], np.clip(slope[:, 0], -0.5, 0.5), atol=1e-6)
    # Where the slope bends there is a bar on it.
    assert dots(figure, 1, "|") == [(-0.5, -0.5), (0.5, 0.5)]
    assert figure.axes[0].get_xlabel() == "error: prediction - target"


def test_a_dot_is_the_gradient_at_the_kink() -> None:
    def loss(error: Any, _: Any) -> Any:
        return jnp.abs(error)

    figure = plot_loss(jaxloss.l1_loss, loss, jaxloss.quantile_loss, **FEW)
    assert dots(figure, 1) == [(0.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
    assert float(jax.grad(jnp.abs)(0.0)) == 1
    assert legend(figure) == ["l1_loss", "loss", "quantile_loss"]


def test_a_jump_is_not_joined() -> None:
    def loss(predictions: Any, targets: Any) -> Any:
        return jnp.where(jnp.abs(predictions - targets) < 1, 0.0, 1.0)

    figure = plot_loss(loss, panels="value", **FEW)
    (curve,) = lines(figure)
    steps = np.abs(np.diff(curve[:, 1]))
    assert np.isnan(steps).sum() == 4
    assert np.nanmax(steps) == 0
    assert dots(figure, 0) == [(-1.0, 1.0), (1.0, 1.0)]


def test_families_of_curves() -> None:
    figure = plot_loss(jaxloss.dpo_loss, kind=["sigmoid", "ipo"], beta=[0.1, 0.3], **FEW)
    assert legend(figure) == [
        f"dpo_loss, kind = {kind}, beta = {beta}"
        for kind in ("sigmoid", "ipo")
        for beta in (0.1, 0.3)
    ]
    for curve, beta in zip(lines(figure)[:2], (0.1, 0.3), strict=True):
        expected = jaxloss.dpo_loss(curve[:, 0], *np.zeros((3, len(curve))), beta=beta)
        np.testing.assert_allclose(curve[:, 1], expected, rtol=1e-6, atol=1e-7)
    # A norm has to be a Python number: each is compiled by itself.
    figure = plot_loss(jaxloss.pairwise_distance, norm_degree=[1.0, 2.0], panels="value", **FEW)
    one, two = lines(figure)
    np.testing.assert_allclose(one[:, 1], np.abs(one[:, 0]) + 1, rtol=1e-6)
    np.testing.assert_allclose(two[:, 1], np.hypot(two[:, 0], 1), rtol=1e-6)


def test_targets_and_partials_and_names() -> None:
    figure = plot_loss(jaxloss.hinge_loss, target=[1, -1], panels="gradient", **FEW)
    assert legend(figure) == ["hinge_loss, target = 1", "hinge_loss, target = -1"]
    assert dots(figure, 0) == [(1.0, -1.0), (-1.0, 1.0)]
    half = functools.partial(jaxloss.huber_loss, delta=0.5)
    figure = plot_loss(half, jaxloss.huber_loss, panels="value", **FEW)
    assert legend(figure) == ["huber_loss, delta = 0.5", "huber_loss"]
    narrow, wide = lines(figure)
    assert narrow[-1, 1] < wide[-1, 1]
    figure = plot_loss(half, jaxloss.l1_loss, names=["Huber", "L1"], panels="value", **FEW)
    assert legend(figure) == ["Huber", "L1"]


def test_an_axis_of_ones_own() -> None:
    def of(x: jax.Array) -> tuple[Any, Any]:
        return jnp.stack([x, 1.0, 0.0]), 1

    loss = jaxloss.softmax_cross_entropy_with_integer_labels
    (curve,) = lines(plot_loss(loss, of=of, domain=(-1.0, 5.0), panels="value", **FEW))
    x = curve[:, 0]
    assert (x[0], x[-1]) == (-1, 5)
    np.testing.assert_allclose(curve[:, 1], np.log(np.exp(x) + np.e + 1) - 1, rtol=1e-5)


def test_labels_tell_a_users_loss_of_scores() -> None:
    def mine(scores: Any, labels: Any) -> Any:
        return jnp.logaddexp(0.0, scores) - labels * scores

    figure = plot_loss(mine, **FEW)
    assert figure.axes[0].get_xlabel() == "score (logit), for label 1"
    (curve,) = lines(figure)
    np.testing.assert_allclose(curve[:, 1], np.log1p(np.exp(-curve[:, 0])), rtol=1e-5, atol=1e-6)


def test_a_pole_does_not_spoil_the_panel() -> None:
    figure = plot_loss(lambda x, _: 1 / x**2, panels="value", points=101)
    assert 0 < figure.axes[0].get_ylim()[1] < 100


def test_an_axis_of_several_targets_names_none() -> None:
    figure = plot_loss(jaxloss.kl_divergence, target=[0.5, 0.7], **FEW)
    assert figure.axes[0].get_xlabel() == "predicted probability of an event"
    figure = plot_loss(jaxloss.hinge_loss, target=[-1, 1], **FEW)
    assert figure.axes[0].get_xlabel() == "score (logit)"


def test_a_long_label_stays_in_its_panel() -> None:
    figure = plot_loss(jaxloss.total_variation_distance, **FEW)
    for axes in figure.axes:
        assert all(len(line) <= 50 for line in axes.get_xlabel().split("\n"))


def test_given_axes_are_drawn_on() -> None:
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert plot_loss(jaxloss.l1_loss, panels=("value", "gradient"), axes=axes, **FEW) is figure
    assert all(place.get_lines() for place in axes)
    assert plot_surface(jaxloss.cosine_distance, axes=axes[0], points=11) is figure


def test_a_loss_of_one_number_is_drawn_along_it() -> None:
    for loss in (jnp.abs, lambda error: error**2):
        assert plot_loss(loss, **FEW).axes[0].get_xlabel() == "x"


def test_a_loss_of_scores_and_a_label_is_drawn_along_a_logit() -> None:
    entropy = jaxloss.over_axis(_entropy, class_numbers=["label"])
    figure = plot_loss(entropy, panels="value", **FEW)
    assert figure.axes[0].get_xlabel().startswith("logit of the right class")


def _entropy(logits: Any, label: Any) -> Any:
    return -jax.nn.log_softmax(logits)[label]


def test_curves_of_one_name_are_told_apart() -> None:
    def legend(*losses: Any, **options: Any) -> list[str]:
        figure: Any = plot_loss(*losses, **options, **FEW)
        return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]

    def elsewhere(predictions: Any, targets: Any) -> Any:
        return (predictions - targets) ** 2

    assert legend(lambda p, t: p - t, lambda p, t: t - p) == ["loss 1", "loss 2"]
    elsewhere.__name__, elsewhere.__module__ = "l1_loss", "other.losses"
    assert legend(jaxloss.l1_loss, elsewhere) == ["jaxloss.l1_loss", "other.l1_loss"]
    assert legend(jaxloss.l1_loss, elsewhere, names=["a", "a"]) == ["a", "a"]
    deltas = ["huber_loss, delta = 1", "huber_loss, delta = 2"]
    assert legend(jaxloss.huber_loss, delta=[1.0, 2.0]) == deltas


@pytest.mark.parametrize("name", ["l1_loss", "giou_loss", "ctc_loss", "ntxent", "dice_loss"])
def test_losses_of_all_kinds_know_their_line(name: str) -> None:
    (curve,) = lines(plot_loss(getattr(jaxloss, name), panels="value", **FEW))
    assert np.isfinite(curve[:, 1]).all()
    assert np.ptp(curve[:, 1]) > 0.1


def test_every_loss_has_a_line() -> None:
    makers = {"combine", "elementwise", "make_fenchel_young_loss", "over_axis"}
    makers |= {"accumulate_value_and_grad", "cached_value_and_grad"}
    assert set(LOSSES) - set(LINES) - makers == {"gumbel_scores", "multi_hot", "ordinal_levels"}
    assert set(LINES) | set(PLANES) <= set(LOSSES)


def test_surface_over_a_hyperparameter() -> None:
    figure = plot_surface(jaxloss.huber_loss, against="delta", points=13)
    place = figure.axes[0]
    assert place.get_xlim() == (-3, 3)
    assert place.get_ylim() == pytest.approx((0.1, 3))
    assert place.get_ylabel() == "delta"


def test_surface_of_predictions_and_targets() -> None:
    place = plot_surface(jaxloss.l1_loss, points=13).axes[0]
    assert (place.get_xlabel(), place.get_ylabel()) == ("prediction", "target")


def test_surface_arrows_go_downhill() -> None:
    def bowl(x: Any, y: Any) -> Any:
        return x**2 + 4 * y**2

    figure = plot_surface(bowl, of=lambda x, y: (x, y), points=25)
    (quiver,) = [x for x in figure.axes[0].get_children() if isinstance(x, Quiver)]
    x, y = np.asarray(quiver.XY).T
    assert np.all(np.asarray(quiver.U) * x <= 0)
    assert np.all(np.asarray(quiver.V) * y <= 0)
    ratio = np.asarray(quiver.V) * x / (np.asarray(quiver.U) * y)
    np.testing.assert_allclose(ratio, 4, rtol=1e-5)
    bare = plot_surface(bowl, of=lambda x, y: (x, y), points=25, arrows=False)
    assert not any(isinstance(x, Quiver) for x in bare.axes[0].get_children())


def test_surface_of_what_is_flat_or_finite_in_a_part() -> None:
    for f in (lambda x, y: 0 * x * y, lambda x, y: jnp.log(x) + y):
        plot_surface(f, of=lambda x, y: (x, y), points=9).canvas.draw()


def test_a_notebook_shows_the_figure() -> None:
    figure: Any = plot_loss(jaxloss.l1_loss, panels="value", **FEW)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert isinstance(pickle.loads(pickle.dumps(figure)), Figure)


def test_curves_differ_in_grey_and_in_dashes() -> None:
    for count in range(2, 7):
        looks = _drawing.looks(count)
        greys = [np.dot(to_rgb(look["color"]), (0.2126, 0.7152, 0.0722)) for look in looks]
        # The sixth is as grey as the fifth.
        assert min(np.diff(greys)[:4]) > 0.07
        assert len({look["linestyle"] for look in looks}) == count
    assert len(_drawing.looks(30)) == 30


Refused = Callable[[], Any]
L1, HINGE = jaxloss.l1_loss, jaxloss.hinge_loss


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: plot_loss(), TypeError, "plot_loss needs a loss to draw"),
        (
            lambda: plot_loss("l1_loss"),  # type: ignore[arg-type]
            TypeError,
            "a loss must be a function, got str 'l1_loss'; write jaxloss.l1_loss",
        ),
        (
            lambda: plot_loss(L1, panels="slope"),  # type: ignore[arg-type]
            ValueError,
            "panels must be some of 'value', 'gradient', 'curvature', got 'slope'",
        ),
        (lambda: plot_loss(L1, delta=1.0), TypeError, "l1_loss takes no delta"),
        (lambda: plot_loss(L1, HINGE, delta=1.0), TypeError, "the losses take no delta"),
        (
            lambda: plot_loss(L1, domain=(1.0, -1.0)),
            ValueError,
            "domain must go from a number to a greater one, got tuple (1.0, -1.0)",
        ),
        (
            lambda: plot_loss(L1, domain=3),  # type: ignore[arg-type]
            ValueError,
            "domain must be a pair of numbers, got int 3",
        ),
        (
            lambda: plot_loss(L1, target="big"),  # type: ignore[arg-type]
            ValueError,
            "target must be a number, or a list of some, got str 'big'",
        ),
        (
            lambda: plot_loss(L1, points=2),
            ValueError,
            "points must be a whole number of at least 3, got int 2",
        ),
        (
            lambda: plot_loss(L1, names=["a", "b"]),
            ValueError,
            "names must be 1, one for each loss, got list ['a', 'b']",
        ),
        (
            lambda: plot_loss(L1, axes=[]),
            ValueError,
            "axes must be 3 of matplotlib's Axes, one for each panel",
        ),
        (
            lambda: plot_loss(jaxloss.huber_loss, delta=[]),
            ValueError,
            "delta is an empty list: there is nothing to draw",
        ),
        (
            lambda: plot_loss(L1, HINGE),
            ValueError,
            "no axis suits all these losses (error: prediction - target; "
            "score (logit)): draw them apart, or give of=",
        ),
        (
            lambda: plot_loss(jaxloss.multi_hot),
            ValueError,
            "multi_hot is no function of a number that a line could show",
        ),
        (lambda: plot_loss(L1, of=3), TypeError, "of must be a function, got int 3"),  # type: ignore[arg-type]
        (
            lambda: plot_loss(L1, of=lambda x: (x, 0.0), target=1.0),
            TypeError,
            "of says what the arguments are: leave target out",
        ),
        (
            lambda: plot_surface(L1, of=lambda x, y: (x, y), target=1.0),
            TypeError,
            "of says what both axes mean: leave against and target out",
        ),
        (
            lambda: plot_surface(jaxloss.nll_loss),
            ValueError,
            "nll_loss has no usual plane: against= or of= gives it one",
        ),
        (
            lambda: plot_surface(L1, against="targets"),
            ValueError,
            "against must name a hyperparameter of l1_loss, not its data",
        ),
        (lambda: plot_surface(L1, against="delta"), TypeError, "l1_loss takes no delta"),
        (
            lambda: plot_loss(jaxloss.huber_loss, delta=[1.0, -1.0], **FEW),
            ValueError,
            "huber_loss, delta = -1 cannot be drawn along 'error: prediction - target': "
            "it is finite nowhere there",
        ),
        (
            lambda: plot_loss(jaxloss.huber_loss, delta=(1.0, 2.0), **FEW),
            ValueError,
            "huber_loss cannot be drawn along 'error: prediction - target': it must return one "
            "number for one, and not [2] of them; of a hyperparameter, a list draws a curve for "
            "each value",
        ),
        (
            lambda: plot_loss(lambda p, t: None, **FEW),  # type: ignore[arg-type,return-value]
            ValueError,
            "loss cannot be drawn along 'error: prediction - target': it must return a number, "
            "got None; of= of plot_loss says what else to draw it along",
        ),
        (
            lambda: plot_loss(jaxloss.l1_loss(1.0)),  # type: ignore[arg-type]
            TypeError,
            "a loss must be a function, got array float32[]",
        ),
        (
            lambda: plot_loss(L1, panels=None),  # type: ignore[arg-type]
            ValueError,
            "panels must be some of 'value', 'gradient', 'curvature', got None",
        ),
        (
            lambda: plot_surface(lambda x: x**2),
            ValueError,
            "loss has no usual plane: against= or of= gives it one",
        ),
        (
            lambda: plot_surface(lambda p, t: (p + t) * jnp.nan, points=9),
            ValueError,
            "loss cannot be drawn along 'prediction, target': it is finite nowhere there",
        ),
        (
            lambda: plot_surface(L1, levels=0),
            ValueError,
            "levels must be a whole number of at least 1, got int 0",
        ),
        (
            lambda: plot_surface(L1, domain=(0.0, 1.0)),  # type: ignore[arg-type]
            ValueError,
            "domain must be a pair of numbers, got float 0.0",
        ),
    ],
)
def test_refused_in_one_line(call: Refused, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as refusal:
        call()
    assert str(refusal.value) == message


def test_a_loss_that_jax_cannot_trace_is_named() -> None:
    def stepwise(predictions: Any, targets: Any) -> Any:
        return 1.0 if predictions > targets else 0.0

    with pytest.raises(ValueError, match=r"^stepwise cannot be drawn along 'error: [^\n]*\Z"):
        plot_loss(stepwise, **FEW)
    with pytest.raises(ValueError, match=r"^stepwise cannot be drawn along [^\n]*\Z"):
        plot_surface(stepwise, points=9)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "jaxloss._drawing")
    monkeypatch.delattr(jaxloss, "_drawing")
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ModuleNotFoundError) as missing:
        plot_loss(jaxloss.l1_loss)
    assert str(missing.value) == (
        "jaxloss.plotting draws with matplotlib, which is missing: pip install 'jaxloss[plot]'"
    )
