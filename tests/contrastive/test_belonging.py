"""Two views of which several belong together, by labels or by targets, in matrices and in rings."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxloss import clip_loss, info_nce_loss, siglip_loss
from jaxloss._contrastive import meeting
from jaxloss.testing.subject import assert_close
from tests.laws.values import double, single

RNG = np.random.default_rng(0)
X, Y, MORE = (single(x) for x in RNG.normal(size=(3, 8, 3)))
LABELS = np.array([0, 1, 0, 2, 1, 0, 3, 2], np.int32)
SAME = LABELS[:, None] == LABELS
# Of a row and of the column of another place nothing; soft.
TARGETS = single(RNG.uniform(size=(8, 8)) * (RNG.uniform(size=(8, 8)) < 0.6))
TARGETS[3] = TARGETS[:, 5] = 0
WHERE = np.arange(8) != 6
LOSSES: list[tuple[Any, dict[str, Any]]] = [
    (info_nce_loss, {"temperature": 0.5}),
    (info_nce_loss, {"temperature": 0.5, "symmetric": True, "negatives": MORE}),
    (clip_loss, {"logit_scale": 2.0}),
    (siglip_loss, {"logit_scale": 2.0, "logit_bias": -1.0}),
]
every = pytest.mark.parametrize(
    ("loss", "options"), LOSSES, ids=["info_nce", "symmetric", "clip", "siglip"]
)


def cosines(x: Any, y: Any) -> Any:
    x, y = double(x), double(y)
    norm = functools.partial(np.linalg.norm, axis=-1, keepdims=True)
    return (x / norm(x)) @ (y / norm(y)).T


def entropies(scores: Any, targets: Any, extra: Any = None) -> Any:
    """Of each row, with its targets as a distribution; 0 where these are all 0."""
    every = scores if extra is None else np.concatenate([scores, extra], 1)
    surprisals = np.log(np.sum(np.exp(every), -1, keepdims=True)) - scores
    whole = np.sum(targets, -1)
    return np.sum(targets * surprisals, -1) / np.where(whole == 0, 1, whole)


def expected(loss: Any, options: Any, targets: Any) -> Any:
    z = 2 * cosines(X, Y)
    if loss is siglip_loss:
        z = z - 1
        yes, no = np.log1p(np.exp(-z)), np.log1p(np.exp(z))
        return np.sum(targets * yes + (1 - targets) * no, -1)
    extra = 2 * cosines(X, MORE) if "negatives" in options else None
    there = entropies(z, targets, extra)
    both = loss is clip_loss or "symmetric" in options
    return 0.5 * (there + entropies(z.T, targets.T)) if both else there


@every
def test_written_out(loss: Any, options: Any) -> None:
    run = functools.partial(loss, X, Y, **options)
    of_labels = expected(loss, options, SAME)
    np.testing.assert_allclose(run(labels=LABELS), of_labels, rtol=1e-5)
    for kind in (bool, np.int32, np.float32):
        np.testing.assert_allclose(run(targets=SAME.astype(kind)), of_labels, rtol=1e-5)
    np.testing.assert_allclose(run(targets=TARGETS), expected(loss, options, TARGETS), rtol=2e-5)
    # Those of one place alone are what is right without either.
    assert_close(run(labels=np.arange(8)), run())
    assert_close(run(targets=np.eye(8, dtype=bool)), run())


def test_what_has_no_partner_is_left_out_of_the_mean() -> None:
    targets = np.eye(8)
    targets[3, 3] = 0
    keep = np.arange(8) != 3
    for loss, options in LOSSES[:3]:
        losses = loss(X, Y, targets=targets, **options)
        assert losses[3] == 0
        mean = loss(X, Y, targets=targets, reduction="mean", **options)
        np.testing.assert_allclose(mean, np.mean(losses[keep]), rtol=1e-6)
    # One that only a query of another place belongs to counts in the symmetric loss.
    targets[0, 3] = 1
    losses = clip_loss(X, Y, targets=targets)
    assert losses[3] != 0
    np.testing.assert_allclose(
        clip_loss(X, Y, targets=targets, reduction="mean"), np.mean(losses), rtol=1e-6
    )


@every
def test_masks_take_pairs_out(loss: Any, options: Any) -> None:
    """What is excluded may hold anything, targets and labels included."""
    options = {k: v for k, v in options.items() if k != "negatives"}
    both = WHERE[:, None] & WHERE
    dirty = np.where(WHERE[:, None], X, np.nan), np.where(WHERE[:, None], Y, np.nan)
    soft = np.where(both, TARGETS, np.nan)
    kept: Any = (X[WHERE], Y[WHERE])
    for more, fewer in (
        ({"targets": soft}, {"targets": TARGETS[np.ix_(WHERE, WHERE)]}),
        ({"labels": np.where(WHERE, LABELS, 0)}, {"labels": LABELS[WHERE]}),
    ):

        def total(x: Any, y: Any, more: Any = more, where: Any = WHERE) -> Any:
            losses = loss(x, y, where=where, **more, **options)
            return jnp.sum(losses), losses

        slopes, losses = jax.grad(total, (0, 1), has_aux=True)(*dirty)
        wanted, short = jax.grad(total, (0, 1), has_aux=True)(*kept, fewer, None)
        assert_close(losses[WHERE], short)
        assert losses[6] == 0
        for got, want in zip(slopes, wanted, strict=True):
            assert_close(got[WHERE], want)
            assert np.all(got[6] == 0)


def test_slopes_in_targets() -> None:
    """Of cross-entropies, of the parts that targets are of their sum; of the sigmoids, linear."""
    with jax.enable_x64(True):
        for loss, options in LOSSES:

            def total(targets: Any, loss: Any = loss, options: Any = options) -> Any:
                return jnp.sum(loss(double(X), double(Y), targets=targets, **options))

            at = double(TARGETS) + 0.2 * (1 - double(TARGETS))
            towards = np.cos(np.arange(64.0)).reshape(8, 8)
            ends = [total(at + step * towards) for step in (1e-6, -1e-6)]
            found = np.sum(jax.grad(total)(at) * towards)
            np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


def test_targets_outside_their_domain() -> None:
    for bad, losses in ((-0.1, LOSSES), (np.nan, LOSSES), (1.5, LOSSES[3:])):
        targets = np.full((8, 8), 0.5, np.float32)
        targets[2, 4] = bad
        for loss, options in losses:
            found = np.asarray(loss(X, Y, targets=targets, **options))
            assert np.isnan(found[2])
            both = loss is clip_loss or "symmetric" in options
            assert np.isnan(found[4]) == both
            assert np.all(np.isfinite(found[[0, 1, 3, 5, 6, 7]]))


def each_derivative(run: Any, *args: Any) -> Any:
    def total(*args: Any) -> Any:
        losses = run(*args)
        return jnp.sum(jnp.arange(1.0, 1 + len(losses)) * losses), losses

    places = tuple(range(len(args)))
    slopes = jax.grad(total, places, has_aux=True)
    moved = jax.jvp(lambda *args: slopes(*args)[0], args, tuple(map(jnp.cos, args)))[1]
    return slopes(*args), moved


@every
def test_labels_in_tiles(loss: Any, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, gradients and Hessian-vector products, also in the hyperparameter."""
    given = dict(options)
    (name,) = set(given) & {"temperature", "logit_scale"}
    knob = jnp.float32(given.pop(name))
    body = loss.__wrapped__

    def run(x: Any, y: Any, knob: Any) -> Any:
        return body(x, y, labels=LABELS, where=WHERE, **{name: knob}, **given)

    whole = each_derivative(run, X, Y, knob)
    monkeypatch.setattr(meeting, "_AT_ONCE", 0)
    tiles = each_derivative(run, X, Y, knob)
    for got, want in zip(jax.tree.leaves(tiles), jax.tree.leaves(whole), strict=True):
        assert_close(got, want, units=256)


@every
def test_labels_in_a_ring(loss: Any, options: Any) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    each = PartitionSpec("data")
    negatives = {"negatives": MORE} if "negatives" in options else {}
    options = {k: v for k, v in options.items() if k != "negatives"}

    def of(axis_name: Any) -> Any:
        def compute(x: Any, y: Any, labels: Any, more: Any) -> Any:
            def total(x: Any, y: Any) -> Any:
                losses = loss(x, y, labels=labels, axis_name=axis_name, **more, **options)
                return jnp.sum(losses), losses

            return jax.grad(total, (0, 1), has_aux=True)(x, y)

        return compute

    args = X, Y, LABELS, negatives
    ring = jax.jit(jax.shard_map(of("data"), mesh=mesh, in_specs=each, out_specs=each))(*args)
    for got, want in zip(
        jax.tree.leaves(ring), jax.tree.leaves(jax.jit(of(None))(*args)), strict=True
    ):
        assert_close(got, want, units=64)


def test_two_spellings_of_one_scale() -> None:
    for loss in (info_nce_loss, clip_loss, siglip_loss):
        by_scale = loss(X, Y, logit_scale=4.0)
        assert_close(loss(X, Y, temperature=0.25), by_scale)
        assert_close(loss(X, Y, temperature=jnp.full(8, 0.25)), by_scale)
        assert np.any(np.abs(by_scale - loss(X, Y)) > 1e-3)
        with pytest.raises(ValueError, match=r"^temperature is 1 / logit_scale: give one of them"):
            loss(X, Y, temperature=0.25, logit_scale=4.0)
        assert np.all(np.isnan(loss(X, Y, temperature=0.0)))
        assert np.all(np.isnan(loss(X, Y, logit_scale=-1.0)))
    assert_close(info_nce_loss(X, Y), info_nce_loss(X, Y, temperature=0.07))
    assert_close(clip_loss(X, Y), clip_loss(X, Y, logit_scale=1 / 0.07))
    assert_close(siglip_loss(X, Y), siglip_loss(X, Y, logit_scale=10.0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": LABELS, "targets": SAME}, ValueError, r"^labels and targets both say what"),
        ({"labels": LABELS[:3]}, ValueError, r"^labels must be of shape \[8\], one for each"),
        ({"labels": SAME}, ValueError, r"^labels must be of shape \[8\], one for each"),
        ({"labels": LABELS * 1.0}, TypeError, r"^labels must be integers, of which equal ones"),
        ({"targets": SAME[0]}, ValueError, r"^targets must be of shape \[8, 8\], a number for"),
        (
            {"targets": SAME[:, :4]},
            ValueError,
            r"^targets must be of shape \[8, 8\], .* got \w+ fl",
        ),
        ({"targets": SAME * 1j}, TypeError, r"^targets must be real, got targets complex"),
    ],
)
def test_bad_input(options: Any, error: Any, message: str) -> None:
    for loss in (info_nce_loss, clip_loss, siglip_loss):
        with pytest.raises(error, match=message):
            loss(X, Y, **options)


def test_targets_are_refused_on_several_devices() -> None:
    for loss in (info_nce_loss, clip_loss, siglip_loss):
        named = functools.partial(loss, axis_name="v")
        with pytest.raises(
            ValueError, match=r"^targets are of all pairs of a batch: with axis_name"
        ):
            jax.vmap(lambda x, y, t, f=named: f(x, y, targets=t), axis_name="v")(
                X[None], Y[None], SAME[None]
            )
