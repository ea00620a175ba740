"""Nothing public is half there: each loss has its row, oracle, values, documentation and place."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxloss
from tests.laws import oracle as oracles
from tests.laws.rows import CASES

ROOT = Path(__file__).parent.parent
LOSSES = sorted(
    name for name, value in vars(jaxloss).items() if inspect.isfunction(value) and name != "reduce"
)
README = (ROOT / "README.md").read_text()

# What the laws of losses do not reach, and where it is tested instead.
NO_ROW = {
    "arcface_logits": "returns logits: tests/test_margin_logits.py",
    "cosface_logits": "returns logits: tests/test_margin_logits.py",
    "ctc_loss": "takes four arrays of three shapes: tests/test_ctc.py",
    "ctc_loss_with_forward_probs": "returns three arrays: tests/test_ctc.py",
    "decode_boxes": "returns boxes: tests/test_boxes.py",
    "encode_boxes": "returns codes: tests/test_boxes.py",
    "lambda_weights": "returns weights: tests/test_ranking.py",
    "make_fenchel_young_loss": "returns a loss: tests/test_multiclass_margin.py",
    "multi_hot": "returns labels: tests/test_multilabel.py",
    "pairwise_distance": "returns a matrix: tests/test_pairwise.py",
    "pairwise_similarity": "returns a matrix: tests/test_pairwise.py",
    "sequence_log_probabilities": "returns scores: tests/test_preference.py",
    "smooth_labels": "returns labels: tests/test_multiclass.py",
}


def home(name: str) -> str:
    """The family a loss lives in: `jaxloss._boxes.losses` is "boxes"."""
    return getattr(jaxloss, name).__module__.split(".")[1].strip("_")


def test_there_are_losses() -> None:
    assert {"l1_loss", "huber_loss", "poisson_nll_loss"} <= set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_no_step_is_missing(name: str) -> None:
    assert f"`{name}`" in README, f"{name} has no row in the README's table of targets"
    own = getattr(jaxloss, name).__name__
    if own != name:
        assert getattr(jaxloss, own) is getattr(jaxloss, name)  # optax's other name of it
        return
    if name not in NO_ROW:
        assert name in {case.name for case in CASES}, f"{name} has no row in tests/cases"
        assert hasattr(oracles, name), f"{name} has no exact form in tests/oracles"
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    used = rf"\(\s*{name},|\b{name}\("
    assert re.search(used, tests), f"{name} has no values in tests/test_{home(name)}.py"


@pytest.mark.parametrize("name", LOSSES)
def test_documentation(name: str) -> None:
    loss = getattr(jaxloss, name)
    text = inspect.getdoc(loss) or ""
    sections = ["Args:", "Returns:", "Reference:", "Example:"]
    positions = [text.find(f"\n{section}\n") for section in sections]
    assert all(p > 0 for p in positions), f"{name} lacks one of {sections}"
    assert positions == sorted(positions)
    assert ">>>" in text[positions[3] :]
    arguments = text[positions[0] : positions[1]]
    for parameter in inspect.signature(loss).parameters:
        assert re.search(rf"^    (.*, )?{parameter}(, .*)?:", arguments, re.M), (
            f"{name} does not document {parameter}"
        )


def test_one_public_path() -> None:
    """`jaxloss.<name>`, and a table of contents that defines nothing."""
    public = {name for name in vars(jaxloss) if not name.startswith("_")}
    assert public == {*LOSSES, "Mean", "reduce"}
    _, text = (ROOT / "jaxloss" / "__init__.py").read_text().split("\n", 1)
    assert re.fullmatch(r"(\s*from \._[\w.]+ import (\(\s*)?(\w+) as \3,?(\s*\))?\n)+", text)


@pytest.mark.parametrize("path", sorted((ROOT / "jaxloss").rglob("*.py")), ids=lambda p: p.name)
def test_chapters_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 420


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", snippets(), ids=range(len(snippets())))
def test_readme_snippets_run(code: str) -> None:
    # As a reader runs them: with JAX's own defaults. optax's Adam promotes dtypes.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        space: dict = {}
        exec(compile(code, "README.md", "exec"), space)
    for name, expected in {"exact": 4, "per_model": [1.0] * 5}.items():
        if name in space:
            assert jnp.all(space[name] == jnp.asarray(expected))
    if "loss" in space:
        assert jnp.isfinite(space["loss"])


def test_readme_target_examples_run() -> None:
    table = README.partition("## What predictions")[2].partition("## ")[0]
    examples = re.findall(r"\| `(\w+\(.*\))` \|$", table, re.M)
    assert len(examples) > 15
    for example in examples:
        losses = eval(example, {**vars(jaxloss), "jnp": jnp})
        assert jnp.all(jnp.isfinite(losses)), example
