"""What documents say is run."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import jaxloss
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
