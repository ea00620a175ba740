"""What documents say is run."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import jaxloss
from jaxloss._help import CALLED_ELSEWHERE
from tests.laws.public import ROOT

README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
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


def cells(header: str) -> list[list[str]]:
    """The rows of the table of README.md under a header."""
    table = README.partition(header)[2].partition("\n\n")[0].strip().splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_names_elsewhere_are_those_that_the_package_knows() -> None:
    shown = {
        here.strip("`"): " ".join(re.findall(r"`(\w+)`", names))
        for names, here in cells("| called elsewhere | here |\n")
    }
    assert shown == CALLED_ELSEWHERE
    assert list(shown) == list(CALLED_ELSEWHERE)


# What is made of these functions of PyTorch has a name here.
COMPOSED = {
    "mse_loss": {"l2_loss"},
    "cross_entropy": {"info_nce_loss"},
    "logsigmoid": {"bradley_terry_loss"},
}


def test_names_of_the_table_by_libraries_are_known() -> None:
    """Each leads to a loss that the table names for it."""
    known: dict[str, str] = {}
    for call, names in CALLED_ELSEWHERE.items():
        for name in names.split():
            known[name] = known.get(name, "") + call
    seen = 0
    for *elsewhere, here in cells("| in PyTorch | in optax | in Keras | here |\n"):
        for cell in elsewhere:
            called = re.match(r"`-?(?:1 - )?(?:F\.|torch\.)?(\w+)\(", cell)
            name = called[1] if called else ""
            losses = set(re.findall(r"\w+(?=[(`])", here))
            if not called or hasattr(jaxloss, name) or losses & COMPOSED.get(name, set()):
                continue
            assert any(f"{loss}(" in known[name] for loss in losses), (name, here)
            seen += 1
    assert seen > 30
