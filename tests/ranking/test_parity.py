"""Rankings, live against optax, rax, scikit-learn and PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.peers import alike, as_jax_ships, evaluated, of_jax, of_optax, of_torch
from tests.laws.values import EPS, single
from tests.laws.values import evaluated as kept

_RNG = np.random.default_rng(6)
SCORES = _RNG.normal(0, 1.5, (8, 6)).astype(np.float32)
# Grades, each list with two that differ; and labels without ties.
GRADES = np.concatenate([_RNG.integers(0, 4, (8, 5)), np.arange(8)[:, None] % 2 + 4], 1)
GRADES = GRADES.astype(np.float32)
DISTINCT = (GRADES + np.linspace(0, 0.75, 6)).astype(np.float32)
THERE = _RNG.uniform(size=SCORES.shape) < 0.7
THERE[:, :2] = True


def one_by_one(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The mean of each list: rax's is over the pairs of all."""
    return jax.jit(jax.vmap(loss))


def same(ours: Any, module: str, theirs: Any, labels: np.ndarray, units: float = 16) -> None:
    """Values and gradients in scores; `theirs` is called with the module, scores and labels."""
    y = jnp.asarray(labels)
    expected = of_jax(module, lambda peer, s: theirs(peer, s, y), SCORES)
    alike(evaluated(lambda s: ours(s, y), SCORES), expected, rtol=units * EPS, largest=None)


RAX: dict[str, tuple[str, float, np.ndarray]] = {
    "listmle_loss": ("listmle_loss", 1, DISTINCT),
    "unique_softmax_loss": ("unique_softmax_loss", 1, GRADES),
    "pairwise_logistic_loss": ("pairwise_logistic_loss", 1, GRADES),
    "pairwise_hinge_loss": ("pairwise_hinge_loss", 1, GRADES),
    # There each document is a pair with itself.
    "pairwise_mse_loss": ("pairwise_mse_loss", 6 / 5, GRADES),
    "ranking_softmax_loss": ("softmax_loss", 1, GRADES),
}


@pytest.mark.parametrize("name", RAX)
def test_rax(name: str) -> None:
    peer, factor, labels = RAX[name]
    ours = getattr(jaxloss, name)
    if name == "ranking_softmax_loss":
        ours = functools.partial(ours, reduction="none")
    same(ours, "rax", lambda rax, s, y: factor * one_by_one(getattr(rax, peer))(s, y), labels)


@pytest.mark.parametrize(("name", "measure"), [("ndcg", "ndcg_metric"), ("mrr", "mrr_metric")])
def test_rax_approximations(name: str, measure: str) -> None:
    rax = pytest.importorskip("rax")
    approximate = {"rank_fn": rax.utils.approx_ranks, "cutoff_fn": rax.utils.approx_cutoff}
    metric = one_by_one(functools.partial(getattr(rax, measure), **approximate))
    labels = GRADES
    if name == "mrr":
        # rax takes the first relevant document; of a single one the mean is that.
        labels = np.eye(6, dtype=np.float32)[np.arange(8) % 6]
    loss = getattr(jaxloss, f"approx_{name}_loss")
    ours = functools.partial(loss, temperature=1.0)
    same(ours, "rax", lambda _, s, y: 1 - metric(s, y), labels, units=32)


@pytest.mark.parametrize("kind", ["ndcg", "ndcg2"])
def test_rax_lambda_weights(kind: Any) -> None:
    rax = pytest.importorskip("rax")
    theirs = {"ndcg": rax.dcg_lambdaweight, "ndcg2": rax.dcg2_lambdaweight}[kind]
    ours = jaxloss.lambda_weights(SCORES, GRADES, kind=kind)
    with as_jax_ships():
        # Times the length of the list, and flat.
        flat = jax.jit(functools.partial(theirs, normalize=True))(SCORES, GRADES)
    expected = np.reshape(flat, ours.shape) / 6
    np.testing.assert_allclose(ours, expected, rtol=64 * EPS, atol=1e-7)

    def of_rax(s: Any, y: Any) -> Any:
        weights = functools.partial(theirs, normalize=True)
        return rax.pairwise_logistic_loss(s, y, lambdaweight_fn=weights) / 6

    @jax.jit
    def weighted(s: Any, y: Any) -> Any:
        weights = jaxloss.lambda_weights(s, y, kind=kind)
        return jaxloss.pairwise_logistic_loss(s, y, pair_weights=weights)

    theirs_by_list = one_by_one(of_rax)
    labels = jnp.asarray(GRADES)
    with as_jax_ships():
        value = theirs_by_list(jnp.asarray(SCORES), labels)
    np.testing.assert_allclose(weighted(SCORES, labels), value, rtol=64 * EPS)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_optax(masked: bool, weighted: bool) -> None:
    options: dict[str, Any] = {}
    if masked:
        options["where"] = jnp.asarray(THERE)
    if weighted:
        options["weights"] = jnp.asarray(_RNG.uniform(0.5, 2, SCORES.shape), jnp.float32)
    for reduce_fn in (jnp.mean, jnp.sum, None):
        given = {**options, "reduce_fn": reduce_fn}
        ours = functools.partial(jaxloss.ranking_softmax_loss, **given)

        def theirs(losses: Any, s: Any, y: Any, given: Any = given) -> Any:
            return losses.ranking_softmax_loss(s, y, **given)

        same(ours, "optax.losses", theirs, GRADES)
    ours = jaxloss.ranking_softmax_loss(SCORES, GRADES, **options)
    y = jnp.asarray(GRADES)
    expected, _ = of_optax(lambda o, s: o.ranking_softmax_loss(s, y, **options), SCORES)
    np.testing.assert_allclose(ours, expected, rtol=16 * EPS)


def test_sklearn_ndcg_is_what_is_left_without_a_temperature() -> None:
    score = pytest.importorskip("sklearn.metrics").ndcg_score
    losses = jaxloss.approx_ndcg_loss(SCORES, GRADES, temperature=1e-5)
    each = [score(2.0 ** y[None] - 1, s[None]) for s, y in zip(SCORES, GRADES, strict=True)]
    np.testing.assert_allclose(losses, 1 - np.array(each), atol=1e-6)


def test_torch_listnet() -> None:
    def theirs(F: Any, s: Any) -> Any:
        return F.cross_entropy(s, s.new_tensor(GRADES).softmax(-1), reduction="none")

    losses, (wanted,) = of_torch(theirs, SCORES)
    ours, (slopes,) = evaluated(lambda s: jaxloss.listnet_loss(s, jnp.asarray(GRADES)), SCORES)
    np.testing.assert_allclose(ours, losses, rtol=16 * EPS)
    np.testing.assert_allclose(slopes, wanted, rtol=1e-7, atol=16 * EPS)


# Where a peer is off.


@pytest.mark.parametrize("name", ["pairwise_logistic_loss", "pairwise_mse_loss"])
def test_rax_has_nan_gradients_at_absent_documents(name: str) -> None:
    peer = getattr(pytest.importorskip("rax"), name)
    scores, there = SCORES.copy(), np.ones(SCORES.shape, bool)
    scores[0, 5], there[0, 5] = np.nan, False
    with as_jax_ships():
        assert np.any(np.isnan(kept(peer, scores, GRADES, where=there)[1]))
    ours = np.asarray(kept(getattr(jaxloss, name), scores, GRADES, where=there)[1][0])
    assert np.all(np.isfinite(ours))
    assert ours[0, 5] == 0


def test_rax_loses_the_digits_of_gaps_of_long_lists() -> None:
    """The discounts of ranks 2999 and 3000 differ in their last digits."""
    rax = pytest.importorskip("rax")
    s = -np.arange(3000, dtype=np.float32)
    y = single(s == s[-1])
    exact = -np.diff(1 / np.log2(1 + np.array([2999.0, 3000.0])))[0]
    with as_jax_ships():
        flat = jax.jit(functools.partial(rax.dcg_lambdaweight, normalize=True))(s, y)
        theirs = np.asarray(flat).reshape(3000, 3000)[-1, -2] / 3000
    assert abs(theirs / exact - 1) > 1e-5
    ours = np.asarray(jaxloss.lambda_weights(s, y))[-1, -2]
    np.testing.assert_allclose(ours, exact, rtol=1e-5)


def test_a_mean_of_rax_is_over_the_pairs_of_all_lists() -> None:
    """So that long lists count for more."""
    rax = pytest.importorskip("rax")
    s, y = jnp.asarray(SCORES[:2]), jnp.asarray(GRADES[:2])
    there = np.ones((2, 6), bool)
    there[0, 2:] = False
    with as_jax_ships():
        theirs = rax.pairwise_logistic_loss(s, y, where=jnp.asarray(there))
    losses = np.asarray(jaxloss.pairwise_logistic_loss(s, y, where=there))
    gaps = GRADES[:2, :, None] > GRADES[:2, None, :]
    pairs = np.sum(gaps & there[:, :, None] & there[:, None, :], (1, 2))
    np.testing.assert_allclose(theirs, np.sum(pairs * losses) / np.sum(pairs), rtol=16 * EPS)
    ours = jaxloss.pairwise_logistic_loss(s, y, where=there, reduction="mean")
    np.testing.assert_allclose(ours, np.mean(losses[pairs > 0]), rtol=16 * EPS)
