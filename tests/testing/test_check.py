"""The laws on losses that users write, and on such that break one law each."""

from __future__ import annotations

import functools
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

import jaxloss
from jaxloss.testing import (
    CLASS,
    LAWS,
    LOGITS,
    POSITIVE,
    PROBABILITIES,
    REAL,
    SIGN,
    Finding,
    Kind,
    Report,
    check_loss,
    laws_for,
)
from tests.laws.peers import as_jax_ships


@pytest.fixture(autouse=True)
def _defaults_of_jax() -> Iterator[None]:
    with as_jax_ships():
        yield


def squared(predictions: Any, targets: Any) -> Any:
    """What users write by hand."""
    return (predictions - targets) ** 2


def careful(predictions: Any, targets: Any) -> Any:
    """That with the checks and the dtype of ours."""
    p, t = jnp.asarray(predictions), jnp.asarray(targets)
    if p.shape != t.shape:
        raise ValueError(f"predictions {p.shape} and targets {t.shape} differ")
    at_least = jnp.promote_types(jnp.promote_types(p.dtype, t.dtype), jnp.float32)
    return jnp.square(p.astype(at_least) - t.astype(at_least))


def mean_of(predictions: Any, targets: Any) -> Any:
    return jnp.mean(careful(predictions, targets))


def centred(predictions: Any, targets: Any) -> Any:
    """Losses of which each depends on all examples."""
    return jnp.sum(careful(predictions - jnp.mean(predictions, 0, keepdims=True), targets), -1)


def distance(predictions: Any, targets: Any) -> Any:
    return jnp.sqrt(jnp.sum(careful(predictions, targets), -1))


def cross_entropy(logits: Any, labels: Any) -> Any:
    logs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(logs, labels[..., None], -1)[..., 0]


def of_images(predictions: Any, targets: Any, *, axis: Any = None) -> Any:
    """The first axis is that of examples, as in losses of images."""
    axes = tuple(range(1, predictions.ndim)) if axis is None else axis
    return jnp.sum(careful(predictions, targets), axes)


def nothing_selected(predictions: Any, targets: Any, *, where: Any = None) -> Any:
    """0 as soon as there is a mask."""
    losses = careful(predictions, targets)
    return losses if where is None else jnp.zeros_like(losses)


def with_a_margin(predictions: Any, targets: Any, *, where: Any = True) -> Any:
    """A loss that is 0 of all that is drawn."""
    p = jnp.where(where, predictions, 0.0)
    return jnp.where(where, jnp.maximum(jnp.square(p - jnp.where(where, targets, 0)) - 1e4, 0), 0)


def weighed_badly(
    predictions: Any,
    targets: Any,
    *,
    where: Any = True,
    weights: Any = 1.0,
    reduction: Any = "none",
) -> Any:
    """A mean that is divided by a count."""
    losses = jnp.where(where, careful(predictions, targets) * weights, 0.0)
    count = jnp.sum(jnp.where(where, jnp.ones_like(losses), 0.0))
    return {"none": losses, "sum": jnp.sum(losses), "mean": jnp.sum(losses) / count}[reduction]


def beyond_the_nearest(predictions: Any, targets: Any) -> Any:
    """Losses of which some are 0 whatever the others are, the first among them."""
    p = predictions[:, 0] - targets[:, 0]
    return jnp.where(p > 0, p * jnp.sum(p), 0.0)


def refusing(predictions: Any) -> Any:
    raise RuntimeError("one\ntwo")


def failed(report: Report) -> set[str]:
    return {x.law for x in report.failures}


def test_a_loss_written_by_hand() -> None:
    report = check_loss(squared, (REAL, REAL))
    assert failed(report) == {"half_precision", "data_are_never_broadcast"}
    assert not report
    assert {x.law for x in report.skipped} >= {"excluded_entries_are_inert"}
    assert {x.law for x in report.findings} == set(LAWS)
    text = str(report)
    assert "squared: 11 laws kept, 2 broken, 9 do not apply" in text
    assert "bfloat16 data give losses of bfloat16" in text
    assert "excluded_entries_are_inert: squared has no parameter where" in text
    with pytest.raises(AssertionError, match="silently gave losses"):
        report.raise_if_failed()


CAREFUL = laws_for(careful, (REAL, REAL))


@pytest.mark.parametrize("law", CAREFUL, ids=str)
def test_a_careful_loss(law: Any) -> None:
    law()


FEW = ["accurate", "nothing_turns_nan", "compiled_and_mapped_agree", "exported_for_any_batch"]


@pytest.mark.parametrize(
    ("loss", "draw"),
    [
        (mean_of, (REAL, REAL)),
        (centred, (REAL, REAL)),
        (beyond_the_nearest, (REAL, REAL)),
        (jaxloss.clip_loss, (REAL, REAL)),
    ],
)
def test_losses_of_a_whole_batch(loss: Any, draw: Any) -> None:
    report = check_loss(loss, draw, laws=[*FEW, "inside_other_transformations"])
    assert report, report


def test_losses_whose_first_axis_is_of_examples() -> None:
    laws = ["compiled_and_mapped_agree", "inside_other_transformations"]
    report = check_loss(of_images, (REAL, REAL), laws=[*laws, "another_axis_is_the_same_loss"])
    assert report, report
    assert [x.law for x in report.passed] == laws


def test_a_vector_without_length_has_no_slope() -> None:
    report = check_loss(distance, (REAL, REAL), laws=["nothing_turns_nan"])
    (found,) = report.failures
    assert "the slope in predictions is [nan, nan, nan, nan]" in found.message


def test_a_mask_that_makes_everything_0() -> None:
    laws = ["excluded_entries_are_inert"]
    assert check_loss(with_a_margin, (REAL, REAL), laws=laws).passed
    (found,) = check_loss(nothing_selected, (REAL, REAL), laws=laws).failures
    assert "the losses that are left are all 0, and are not without a mask" in found.message


def test_a_mean_of_ones_own_is_judged_without_parts() -> None:
    """It knows no reduction but the three that are public."""
    laws = ["weights_multiply_and_means_divide_by_them"]
    (found,) = check_loss(weighed_badly, (REAL, REAL), laws=laws).failures
    assert found.message.startswith("weights and means (mean), and as NumPy has them: ")


def test_class_numbers_are_tried_outside() -> None:
    report = check_loss(cross_entropy, (LOGITS, CLASS), laws=["outside_the_domain_is_nan"])
    assert "labels=-1 is outside the domain" in report.failures[0].message


# A planted fault for each law that no row of ours runs.


@jax.custom_jvp
def bent(x: jax.Array) -> jax.Array:
    """`x`, whose slope is 1 in reverse mode and something else under a derivative."""
    return x


@jax.custom_jvp
def one(x: jax.Array) -> jax.Array:
    return jnp.ones_like(x)


bent.defjvp(lambda primals, tangents: (primals[0], one(*primals) * tangents[0]))
one.defjvp(lambda primals, tangents: (one(*primals), jnp.sqrt(primals[0] - 1e9) * tangents[0]))


def biased(predictions: Any, targets: Any) -> Any:
    """By 40 eps in float32, and by none in float64."""
    losses = careful(predictions, targets)
    return losses * (1 + 4.8e-6 * (losses.dtype == jnp.float32))


def bending(predictions: Any, targets: Any) -> Any:
    return bent(careful(predictions, targets))


@pytest.mark.parametrize(
    ("law", "loss", "told"),
    [
        (
            "accurate",
            biased,
            r"the loss is .*, 3\d\.\d eps away .16 are allowed., at\s+predictions=",
        ),
        ("second_derivatives_agree", bending, "the Hessian, forward over reverse, is .*nan"),
    ],
)
def test_a_planted_fault_is_caught(law: str, loss: Any, told: str) -> None:
    assert check_loss(careful, (REAL, REAL), laws=[law])
    report = check_loss(loss, (REAL, REAL), laws=[law])
    with pytest.raises(AssertionError, match=told):
        report.raise_if_failed()


def test_an_error_is_shown_at_ordinary_numbers() -> None:
    def wrong(predictions: Any, targets: Any) -> Any:
        losses = careful(predictions, targets)
        return losses * (1 + 1e-3 * (losses.dtype == jnp.float32))

    (found,) = check_loss(wrong, (REAL, REAL), laws=["accurate"]).failures
    predictions = float(found.message.split("predictions=")[1].split(",")[0])
    assert 0.1 < abs(predictions) < 10


# Oracles.


def scaled(predictions: Any, targets: Any, *, scale: float = 1.0) -> Any:
    return jnp.log(jnp.asarray(predictions) / targets) ** 2 * scale


def exact(predictions: Any, targets: Any, scale: Any = 1) -> Any:
    return mp.log(predictions / targets) ** 2 * scale


def in_numpy(predictions: Any, targets: Any, scale: Any = 1) -> Any:
    return np.log(predictions / targets) ** 2 * scale


def ordinary(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return rng.uniform(2, 3, shape), rng.uniform(0.2, 0.3, shape)


@pytest.mark.parametrize("oracle", [exact, in_numpy, None])
def test_oracles(oracle: Any) -> None:
    loss = functools.partial(scaled, scale=0.7)
    assert check_loss(loss, ordinary, oracle=oracle, laws=["accurate"])


def test_an_oracle_of_a_whole_batch() -> None:
    def mean(predictions: Any, targets: Any) -> Any:
        return np.mean((predictions - targets) ** 2)

    assert check_loss(mean_of, (REAL, REAL), oracle=mean, laws=["accurate"])
    wrong = check_loss(mean_of, (REAL, REAL), oracle=lambda *x: 1.001 * mean(*x), laws=["accurate"])
    assert "the loss is" in wrong.failures[0].message


def test_an_oracle_of_terms() -> None:
    """A difference of large numbers is measured against these."""

    def difference(predictions: Any, targets: Any) -> Any:
        return (predictions + 1000) - (targets + 1000)

    def terms(predictions: Any, targets: Any) -> list[Any]:
        return [predictions + 1000, -(targets + 1000)]

    assert check_loss(difference, ordinary, oracle=terms, laws=["accurate"])
    assert not check_loss(difference, ordinary, oracle=lambda *x: sum(terms(*x)), laws=["accurate"])


@pytest.mark.parametrize("oracle", [exact, in_numpy])
def test_an_oracle_of_another_formula_is_noticed(oracle: Any) -> None:
    report = check_loss(scaled, ordinary, oracle=lambda *x: 1.001 * oracle(*x), laws=["accurate"])
    assert "the loss is" in report.failures[0].message
    # Slopes too, if the formula takes mpmath's numbers.
    assert ("the slope in targets" in report.failures[0].message) == (oracle is exact)


def in_a_row(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Examples of one number, without an axis for it."""
    return tuple(rng.normal(size=shape[:1]) for _ in range(2))


@pytest.mark.parametrize("law", laws_for(jaxloss.huber_loss, in_a_row), ids=str)
def test_examples_may_be_single_numbers(law: Any) -> None:
    law()


def test_ordinary_numbers_are_never_nan() -> None:
    def root(predictions: Any) -> Any:
        return jnp.sqrt(predictions)

    for draw in ((REAL,), lambda rng, shape: (rng.normal(size=shape),)):
        (found,) = check_loss(root, draw, laws=["nothing_turns_nan"]).failures
        assert "the loss is nan" in found.message


# What is refused, and what is not a crash.


def test_what_a_loss_raises_is_a_failure() -> None:
    def breaking(predictions: Any, targets: Any) -> Any:
        if predictions.dtype == jnp.bfloat16:
            raise RuntimeError("no half precision here")
        return careful(predictions, targets)

    report = check_loss(breaking, (REAL, REAL), laws=["half_precision"])
    assert report.failures[0].message == "it raised RuntimeError: no half precision here"


@pytest.mark.parametrize(
    ("error", "match", "loss", "draw", "options"),
    [
        (TypeError, "loss must be a function, got 3", 3, (REAL, REAL), {}),
        (TypeError, "draw must be a function, or one Kind", squared, ("real", "real"), {}),
        (
            ValueError,
            "laws must be among accurate, .*, got x",
            squared,
            (REAL, REAL),
            {"laws": "x"},
        ),
        (ValueError, "squared cannot be called with what is drawn", squared, (REAL,), {}),
        (ValueError, "float32.8, 3.: RuntimeError: one two$", refusing, (REAL,), {}),
        (ValueError, "must return one loss per element", lambda x: x[:3], (REAL,), {}),
        (ValueError, "must return one array, got tuple", lambda x: (x, x), (REAL,), {}),
        (TypeError, "draw must return a tuple of arrays", abs, lambda rng, shape: rng, {}),
        (ValueError, "draw must return 2 examples when", abs, lambda rng, shape: [np.ones(8)], {}),
    ],
)
def test_mistakes_are_named(error: Any, match: str, loss: Any, draw: Any, options: Any) -> None:
    with pytest.raises(error, match=match) as raised:
        check_loss(loss, draw, **options)
    assert "\n" not in str(raised.value)


def test_a_law_that_does_not_apply_skips_its_test() -> None:
    (law,) = laws_for(squared, (REAL, REAL), laws=["excluded_entries_are_inert"])
    with pytest.raises(unittest.SkipTest, match="squared has no parameter where"):
        law()
    (law,) = laws_for(squared, (REAL, REAL), laws=["half_precision"])
    with pytest.raises(AssertionError, match="bfloat16 data give losses of bfloat16"):
        law()


WRITTEN = """
import jax.numpy as jnp
import pytest
from jaxloss.testing import REAL, laws_for

def my_loss(predictions, targets):
    return (predictions - targets) ** 2

LAWS = ["half_precision", "nothing_turns_nan", "nothing_selected_gives_zero"]

@pytest.mark.parametrize("law", laws_for(my_loss, (REAL, REAL), laws=LAWS), ids=str)
def test_my_loss(law): law()
"""


def test_two_lines_are_a_test(tmp_path: Path) -> None:
    """In a project that has nothing of ours but the package."""
    (tmp_path / "test_mine.py").write_text(WRITTEN)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "."]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed, 1 skipped" in found.stdout
    assert "FAILED test_mine.py::test_my_loss[half_precision]" in found.stdout
    assert "bfloat16 data give losses of bfloat16" in found.stdout
    assert "my_loss has no parameter where" in found.stdout


def test_a_kind_of_ones_own() -> None:
    share = Kind(lambda rng, shape: rng.uniform(0.1, 0.9, shape), (0.0, 0.25, 1.0))
    assert repr(share) == "<Kind: of your own>"
    assert repr(POSITIVE) == "<Kind: A number above 0: a scale, a variance.>"

    def surprise(probabilities: Any) -> Any:
        return -jnp.log(probabilities) * probabilities

    (found,) = check_loss(surprise, (share,), laws=["nothing_turns_nan"]).failures
    assert "the loss is nan" in found.message
    assert "probabilities=0" in found.message
    assert check_loss(surprise, (POSITIVE,), laws=["nothing_turns_nan"])


def test_findings_are_text() -> None:
    assert str(Finding("a_law", "It holds.", "passed")) == "a_law: passed"
    assert str(Finding("a_law", "It holds.", "failed", "1 is 2")) == "a_law: 1 is 2"


@pytest.mark.parametrize(
    ("loss", "draw"),
    [
        (jaxloss.cosine_distance, (LOGITS, LOGITS)),
        (jaxloss.triplet_margin_loss, (REAL, REAL, REAL)),
        (jaxloss.cosine_embedding_loss, (REAL, REAL, SIGN)),
        (jaxloss.softmax_cross_entropy_with_integer_labels, (LOGITS, CLASS)),
        (jaxloss.hellinger_distance, (PROBABILITIES, PROBABILITIES)),
        # Each slope is a sum over the batch.
        (jaxloss.info_nce_loss, (REAL, REAL)),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_vectors_whose_terms_cancel_are_no_false_alarm(loss: Any, draw: Any) -> None:
    """Of nearly parallel vectors 1 and the cosine, of distant ones both distances."""
    report = check_loss(loss, draw, laws=["accurate"])
    assert report, report
