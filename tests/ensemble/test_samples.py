"""Scores of ensembles: values by hand, the formulas of peers in float64, masks, memory."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import crps_ensemble, energy_score, gaussian_crps, l1_loss
from jaxloss._numerics import order
from tests.laws.values import EPS, Row, check, double, evaluated, row_id, single

KINDS = ("fair", "almost_fair", "biased")
SIXTH = 1 / 6
ROWS: list[Row] = [
    # mean |x - y| = 7/3, the mean distance of two of three members 10/3.
    (crps_ensemble, ((1, 2, 6), 4), {}, 2 / 3, (0, -2 * SIXTH, 0)),
    (crps_ensemble, ((1, 2, 6), 4), {"kind": "biased"}, 11 / 9, (-1 / 9, -3 / 9, 1 / 9)),
    (
        crps_ensemble,
        ((1, 2, 6), 4),
        {"kind": "almost_fair", "alpha": 0.5},
        17 / 18,
        (-1 / 18, -1 / 3, 1 / 18),
    ),
    # A target between two members costs nothing, however far these are apart.
    (crps_ensemble, ((-100, 100), 3), {}, 0, (0, 0)),
    (crps_ensemble, ((-100, 100), 3), {"kind": "biased"}, 50, (-0.25, 0.25)),
    # Equal members.
    (crps_ensemble, ((1, 1, 1), 3), {}, 2, (-1 / 3, -1 / 3, -1 / 3)),
    (crps_ensemble, ((3, 3), 3), {}, 0, (0, 0)),
    # One member is the L1 loss.
    (crps_ensemble, ((5,), 3), {"kind": "biased"}, 2, (1,)),
    # Only what happens from 2 to 5 counts.
    (crps_ensemble, ((1, 3, 8), 4), {"lower": 2, "upper": 5}, 1 / 3, (0, -1 / 3, 0)),
    (crps_ensemble, ((1, 3, 8), 9), {"lower": 10}, 0, (0, 0, 0)),
    (crps_ensemble, ((1, 3, 8), 9), {"upper": -1, "kind": "biased"}, 0, (0, 0, 0)),
    # The outermost member does not matter to the fair score, at infinity either.
    (crps_ensemble, ((1, 2, np.inf), 4), {}, 2 / 3, (0, -2 * SIXTH, 0)),
    (crps_ensemble, ((1, 2, 6), np.inf), {}, np.inf, (0, -2 * SIXTH, -4 * SIXTH)),
]


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_by_hand(row: Row) -> None:
    check(row)


def of_pairs(x: Any, y: Any) -> tuple[Any, Any]:
    """The mean distance of members from the target, and the sum of that of all pairs, in float64.

    What scoringrules computes for its estimators "nrg" and "fair".
    """
    x, y = double(x), double(y)
    between = np.abs(x[..., :, None] - x[..., None, :]).sum((-2, -1))
    return np.abs(x - y[..., None]).mean(-1), between


def estimated(x: Any, y: Any, kind: str, alpha: float = 0.95) -> Any:
    size = np.shape(x)[-1]
    to_target, between = of_pairs(x, y)
    biased = to_target - between / (2 * size**2)
    if kind == "biased":
        return biased
    fair = to_target - between / (2 * size * (size - 1))
    return fair if kind == "fair" else alpha * fair + (1 - alpha) * biased


def quantile_decomposition(x: Any, y: Any) -> Any:
    """The estimator "qd" of scoringrules, which is the biased one."""
    x, y = np.sort(double(x), -1), double(y)[..., None]
    size = x.shape[-1]
    level = (np.arange(1, size + 1) - 0.5) / size
    return 2 * (((y < x) - level) * (x - y)).mean(-1)


def weighted_moments(x: Any, y: Any) -> Any:
    """The estimator "pwm" of scoringrules, which is the fair one."""
    x, y = np.sort(double(x), -1), double(y)
    size = x.shape[-1]
    first = (x * np.arange(size)).sum(-1) / (size * (size - 1))
    return np.abs(x - y[..., None]).mean(-1) + x.mean(-1) - 2 * first


def lang(x: Any, y: Any, alpha: float) -> Any:
    """Almost fair as its paper writes it: a sum over pairs of different members."""
    x, y = double(x), double(y)
    size, epsilon = x.shape[-1], (1 - alpha) / x.shape[-1]
    to_target = np.abs(x - y[..., None])
    pairs = to_target[..., :, None] + to_target[..., None, :]
    pairs = pairs - (1 - epsilon) * np.abs(x[..., :, None] - x[..., None, :])
    pairs[..., np.arange(size), np.arange(size)] = 0
    return pairs.sum((-2, -1)) / (2 * size * (size - 1))


# The places of few members are counted, those of many found by sorts.
@pytest.fixture(scope="module", params=[50, 80], ids=["counted", "sorted"])
def drawn(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Ensembles, some members of which are equal, and targets in and far outside of them."""
    rng = np.random.default_rng(0)
    x = single(rng.normal(0, 1, (64, request.param)) + rng.normal(0, 3, (64, 1)))
    x[:16] = np.round(x[:16])
    y = single(rng.normal(0, 3, 64))
    y[40:48] += 1e4
    y[8:12] = x[8:12, 0]
    return x, y


@pytest.mark.parametrize("kind", KINDS)
def test_the_formulas_of_peers(kind: Any, drawn: Any) -> None:
    """To 4 eps of the result: a share, a difference, their product, and a sum."""
    x, y = drawn
    losses, _ = evaluated(crps_ensemble, x, y, kind=kind)
    np.testing.assert_allclose(losses, estimated(x, y, kind), rtol=4 * EPS)
    other = {
        "fair": weighted_moments,
        "biased": quantile_decomposition,
        "almost_fair": functools.partial(lang, alpha=0.95),
    }[kind]
    np.testing.assert_allclose(estimated(x, y, kind), other(x, y), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_the_pairs(kind: Any, drawn: Any) -> None:
    x, y = drawn
    _, (in_x, in_y) = evaluated(crps_ensemble, x, y, kind=kind, wrt=(0, 1))
    size = x.shape[-1]
    share = {"fair": 1.0, "almost_fair": 0.95, "biased": 0.0}[kind]
    c = share / (size * (size - 1)) + (1 - share) / size**2
    side = np.sign(double(x) - y[:, None])
    between = np.sign(double(x)[:, :, None] - x[:, None, :]).sum(-1)
    expected = side / size - c * between
    np.testing.assert_allclose(in_x, expected, atol=4 * EPS * np.abs(expected).max())
    np.testing.assert_allclose(in_y, -side.mean(-1), atol=EPS)


def test_both_ways_to_find_places_agree() -> None:
    """Equal members, zeros of both signs, infinities; NaN stands for those that are not there."""
    rng = np.random.default_rng(8)
    x = single(rng.choice([-np.inf, -1e30, -1, -0.0, 0.0, 1e-30, 2, np.inf, np.nan], (64, 12)))
    ways = order._counted_places, order._sorted_places
    counted, found = (np.asarray(way(jnp.asarray(x))) for way in ways)
    np.testing.assert_array_equal(counted[~np.isnan(x)], found[~np.isnan(x)])
    for way in ways:
        np.testing.assert_array_equal(way(jnp.array([[2.0, 1.0, 2.0, 5.0]])), [[3, 0, 3, 6]])


def test_biased_is_the_integral_over_the_step_function() -> None:
    x, y = single([1.0, 2.0, 4.5, 4.5]), np.float32(3.0)
    # Breaks at multiples of 1/2: the middles of cells say all.
    z = np.arange(0, 6, 0.5) + 0.25
    distribution = (double(x)[:, None] <= z).mean(0)
    integral = 0.5 * np.sum((distribution - (y <= z)) ** 2)
    np.testing.assert_allclose(crps_ensemble(x, y, kind="biased"), integral, rtol=1e-6)
    # With thresholds, over what lies between them.
    inside = (z > 1.5) & (z < 4)
    integral = 0.5 * np.sum(((distribution - (y <= z)) ** 2)[inside])
    found = crps_ensemble(x, y, kind="biased", lower=1.5, upper=4.0)
    np.testing.assert_allclose(found, integral, rtol=1e-6)


def test_fair_does_not_depend_on_the_number_of_members() -> None:
    """In the mean over samples of a Gaussian it is the score of the Gaussian; biased is larger."""
    rng = np.random.default_rng(1)
    exact = gaussian_crps(0.0, 0.7, 1.0)
    for size in (2, 5):
        x = single(rng.normal(size=(40_000, size)))
        y = np.full(len(x), 0.7, np.float32)
        fair, biased = (crps_ensemble(x, y, kind=kind) for kind in ("fair", "biased"))
        # Of 40,000 losses whose deviation is below 1.
        assert abs(float(jnp.mean(fair)) - exact) < 5 / np.sqrt(len(x))
        # The mean distance of two, 2 / sqrt(pi), is a share 1 / (2 M) larger than it reads.
        excess = float(jnp.mean(biased)) - exact
        assert abs(excess - 1 / (size * np.sqrt(np.pi))) < 5 / np.sqrt(len(x))


def test_an_offset_costs_no_digits(drawn: Any) -> None:
    """The same members and targets, 2^17 further on: as exact as their differences are."""
    x, y = (np.round(z * 64) / 64 for z in drawn)
    found = crps_ensemble(single(x + 2**17), single(y + 2**17))
    np.testing.assert_allclose(found, estimated(x, y, "fair"), rtol=4 * EPS)


def test_different_members_that_are_equally_far_are_not_equal() -> None:
    """x - y is rounded to -1e30 for all three."""
    _, (slope,) = evaluated(crps_ensemble, single([3.0, 1.0, 2.0]), np.float32(1e30))
    np.testing.assert_allclose(slope, [-4 * SIXTH, 0, -2 * SIXTH], rtol=1e-6)


def test_members_along_another_axis_and_masked_ones(drawn: Any) -> None:
    x, y = drawn[0].reshape(8, 8, -1), drawn[1].reshape(8, 8)
    expected = crps_ensemble(x, y)
    np.testing.assert_array_equal(crps_ensemble(x.swapaxes(0, 2), y.T, axis=0), expected.T)
    np.testing.assert_array_equal(crps_ensemble(x.swapaxes(1, 2), y, axis=1), expected)
    # Of each ensemble its own members, the others NaN.
    keep = np.random.default_rng(2).uniform(size=x.shape) < 0.7
    keep[0, 0], keep[0, 1, 2:] = False, False
    keep[0, 1, :2] = True
    garbage = np.where(keep, x, np.nan)
    for kind in KINDS:
        losses, (slope,) = evaluated(crps_ensemble, garbage, y, where=keep, kind=kind)
        for place in np.ndindex(8, 8):
            some = x[place][keep[place]]
            wanted = estimated(some, y[place], kind) if len(some) else 0
            np.testing.assert_allclose(losses[place], wanted, rtol=1e-6, atol=1e-7)
        assert not np.any(slope[~keep])
        assert np.all(np.isfinite(slope))


def test_a_mask_that_leaves_one_member() -> None:
    """The fair score of one is undefined; it is left out where no member is there at all."""
    x, y = single([[1.0, 5.0], [2.0, 4.0], [2.0, 9.0]]), single([3.0, 3.0, 3.0])
    keep = np.array([[True, False], [True, True], [False, False]])
    for kind in ("fair", "almost_fair"):
        losses, (slope,) = evaluated(crps_ensemble, x, y, where=keep, kind=kind)
        np.testing.assert_array_equal(np.isnan(losses), [True, False, False])
        np.testing.assert_array_equal(
            np.isnan(slope), [[True, False], [False, False], [False, False]]
        )
        assert losses[2] == 0
    losses, (slope,) = evaluated(crps_ensemble, x, y, where=keep, kind="biased")
    np.testing.assert_allclose(losses, [2, 0.5, 0])
    np.testing.assert_array_equal(slope[0], [-1, 0])


def test_thresholds_that_cross_are_nan() -> None:
    x = single([[1.0, 2.0], [1.0, 2.0]])
    lower, upper = single([0.0, 3.0]), single([2.0, 2.5])
    found = crps_ensemble(x, single([0.5, 0.5]), lower=lower, upper=upper)
    np.testing.assert_array_equal(np.isnan(found), [False, True])


@pytest.mark.parametrize("kind", ["fair", "almost_fair"])
def test_one_member_is_refused(kind: Any) -> None:
    message = r"^predictions must have at least two members, or kind='biased'.*float32\[4, 1\]$"
    with pytest.raises(ValueError, match=message):
        crps_ensemble(jnp.zeros((4, 1)), jnp.zeros(4), kind=kind)


def test_bad_input_is_refused_by_name() -> None:
    x = jnp.zeros((4, 3))
    with pytest.raises(ValueError, match=r"^predictions must have at least a member"):
        crps_ensemble(x[:, :0], x[:, 0], kind="biased")
    with pytest.raises(ValueError, match=r"^kind must be one of 'fair', 'almost_fair', 'biased'"):
        crps_ensemble(x, x[:, 0], kind="unfair")  # type: ignore
    with pytest.raises(ValueError, match=r"^targets must be a target for each ensemble, of shape"):
        crps_ensemble(x, x)
    with pytest.raises(TypeError, match=r"^predictions must be floating-point"):
        crps_ensemble(jnp.zeros((4, 3), int), x[:, 0])


def temporaries(loss: Any, *arrays: Any) -> int:
    """The bytes that value and gradient of the sum of some losses need besides their results."""
    shapes = [jax.ShapeDtypeStruct(x, jnp.float32) for x in arrays]
    compute = jax.jit(jax.value_and_grad(lambda *args: jnp.sum(loss(*args))))
    memory = compute.lower(*shapes).compile().memory_analysis()
    assert memory
    return memory.temp_size_in_bytes


def test_memory_grows_with_the_members_and_not_with_their_pairs() -> None:
    """4,096 ensembles of 512 are 8 MiB; all pairs would be 4 GiB."""
    used = temporaries(crps_ensemble, (4096, 512), (4096,))
    assert used < 7 * 4 * 4096 * 512
    # Counted, they are compared as they are computed.
    used = temporaries(crps_ensemble, (4096, 50), (4096,))
    assert used < 3 * 4 * 4096 * 50


def test_one_member_of_the_biased_score_is_l1() -> None:
    x, y = single(np.random.default_rng(3).normal(size=(2, 20)))
    found = crps_ensemble(x[:, None], y, kind="biased")
    np.testing.assert_array_equal(found, l1_loss(x, y))


def vectors_of_pairs(x: Any, y: Any, kind: str) -> Any:
    """The energy score as scoringrules computes it, in float64."""
    x, y = double(x), double(y)
    size = x.shape[-2]
    between = np.linalg.norm(x[..., :, None, :] - x[..., None, :, :], axis=-1).sum((-2, -1))
    to_target = np.linalg.norm(x - y[..., None, :], axis=-1).mean(-1)
    biased, fair = (to_target - between / (2 * n) for n in (size**2, size * (size - 1)))
    return {"biased": biased, "fair": fair, "almost_fair": 0.95 * fair + 0.05 * biased}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 5, 6])
def test_energy_is_that_of_the_pairs(kind: Any, size: int) -> None:
    """Of an even and of an odd number of members."""
    rng = np.random.default_rng(4)
    x, y = single(rng.normal(size=(3, 4, size, 3))), single(rng.normal(size=(3, 4, 3)))
    found = energy_score(x, y, kind=kind)
    np.testing.assert_allclose(found, vectors_of_pairs(x, y, kind), rtol=16 * EPS)


def test_energy_of_one_number_is_the_crps(drawn: Any) -> None:
    x, y = (z[:32] for z in drawn)
    for kind in KINDS:
        found, (slope,) = evaluated(energy_score, x[..., None], y[:, None], kind=kind)
        expected, (wanted,) = evaluated(crps_ensemble, x, y, kind=kind)
        # The difference of two sums: of the larger one, the mean distance from the target.
        largest = of_pairs(x, y)[0].max()
        np.testing.assert_allclose(found, expected, atol=16 * EPS * largest)
        np.testing.assert_allclose(slope[..., 0], wanted, atol=16 * EPS)


def test_energy_far_from_zero_keeps_its_digits() -> None:
    """Distances of differences; those of a matrix of products lose half of the digits and more."""
    rng = np.random.default_rng(5)
    x, y = (np.round(rng.normal(size=shape) * 256) / 256 for shape in ((10, 3), (3,)))
    found = energy_score(single(x + 2**14), single(y + 2**14))
    np.testing.assert_allclose(found, vectors_of_pairs(x, y, "fair"), rtol=16 * EPS)
    far = single(x + 2**14)
    squares = np.sum(far * far, -1)
    gram = squares[:, None] + squares - 2 * far @ far.T
    exact = np.sum((x[:, None] - x) ** 2, -1)
    assert np.abs(gram - exact).max() > 0.1


def test_energy_is_never_negative() -> None:
    """A target on the line between two members costs nothing."""
    rng = np.random.default_rng(6)
    x = single(rng.normal(size=(1000, 2, 3)))
    share = single(rng.uniform(size=(1000, 1)))
    y = x[:, 0] + share * (x[:, 1] - x[:, 0])
    losses = np.asarray(energy_score(x, y))
    assert np.all((losses >= 0) & (losses <= 1e-6))
    assert np.any(losses == 0)


def test_members_of_vectors_that_are_not_there() -> None:
    rng = np.random.default_rng(7)
    x, y = single(rng.normal(size=(6, 5, 3))), single(rng.normal(size=(6, 3)))
    keep = rng.uniform(size=(6, 5)) < 0.6
    keep[0], keep[1], keep[2] = False, [True] + [False] * 4, [True, False, False, True, False]
    dirty = np.where(keep[..., None], x, np.nan)
    for kind in ("fair", "biased"):
        losses, (slope,) = evaluated(energy_score, dirty, y, where=keep, kind=kind)
        for i in range(2, 6):
            expected = vectors_of_pairs(x[i][keep[i]], y[i], kind)
            np.testing.assert_allclose(losses[i], expected, rtol=16 * EPS)
        assert losses[0] == 0
        assert np.isnan(losses[1]) == (kind == "fair")
        assert not np.any(slope[~keep])
        assert np.all(np.isfinite(slope[2:]))
    # Of the rank of the loss: ensembles.
    some = np.asarray(keep.any(-1))
    found = energy_score(np.where(some[:, None, None], x, np.inf), y, where=some)
    expected = np.where(some, vectors_of_pairs(x, y, "fair"), 0)
    np.testing.assert_allclose(found, expected, rtol=16 * EPS)


def test_memory_of_vectors_grows_with_the_members_and_not_with_their_pairs() -> None:
    """512 vectors of 64 are 128 KiB; the differences of all pairs would be 64 MiB."""
    used = temporaries(energy_score, (16, 512, 64), (16, 64))
    assert used < 8 * 4 * 16 * 512 * 64


def test_bad_vectors_are_refused_by_name() -> None:
    x = jnp.zeros((4, 3, 2))
    with pytest.raises(ValueError, match=r"^predictions must have an axis of members and one of"):
        energy_score(x[0, 0], x[0, 0])
    with pytest.raises(ValueError, match=r"^targets must be a vector .* of shape \[4, 2\], got"):
        energy_score(x, x)
    with pytest.raises(ValueError, match=r"^predictions must have at least two members"):
        energy_score(x[:, :1], x[:, 0])
    with pytest.raises(ValueError, match=r"^where must be a scalar or have the rank of the loss"):
        energy_score(x, x[:, 0], where=jnp.ones(x.shape, bool))
    with pytest.raises(ValueError, match=r"^kind must be one of"):
        energy_score(x, x[:, 0], kind="unfair")  # type: ignore
