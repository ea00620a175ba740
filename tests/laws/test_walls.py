"""What may import what: numerics under the contract under the families, no family another.

And who may know of compilers: the numerics alone.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.laws.public import ROOT

PACKAGE = ROOT / "jaxloss"
FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
BELOW = ("_numerics", "_contract")
# What is public and a folder, such as `testing`, is none.
FAMILIES = [name for name in FOLDERS if name.startswith("_") and name not in BELOW]


def allowed(folder: str) -> set[str]:
    """The folders that the files of a folder may import from."""
    below = {"_numerics": set(), "_contract": {"_numerics"}}.get(folder, {"_numerics", "_contract"})
    return {folder, *below}


def imported(code: str, package: str) -> set[str]:
    """The folders of jaxloss that code imports from; "" for the package itself.

    Args:
        code: Of a module.
        package: The package it is in, such as "jaxloss._boxes".
    """
    found = set()
    for node in ast.walk(ast.parse(code)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*base, node.module or ""] if node.level else [node.module or ""])
            names = [f"{start.rstrip('.')}.{alias.name}" for alias in node.names]
        for name in names:
            root, *rest = name.split(".")
            if root == "jaxloss":
                found.add(rest[0] if rest and rest[0] in FOLDERS else "")
    return found


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


@pytest.mark.parametrize("folder", FOLDERS)
def test_walls(folder: str) -> None:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        beyond = imported(path.read_text(), package_of(path)) - allowed(folder)
        assert not beyond, f"{path.relative_to(ROOT)} imports from {sorted(beyond)}"


def test_there_are_families() -> None:
    assert {"_boxes", "_regression", "_multiclass"} <= set(FAMILIES)
    assert len(FAMILIES) >= 12


@pytest.mark.parametrize(
    ("line", "wall"),
    [
        ("from .._boxes.losses import giou_loss", "_boxes"),
        ("from .._boxes import losses", "_boxes"),
        ("from jaxloss._boxes import losses", "_boxes"),
        ("import jaxloss._boxes.losses", "_boxes"),
        ("import jaxloss", ""),
        ("from jaxloss import l1_loss", ""),
        ("from .. import l1_loss", ""),
        ("from ..testing.kinds import REAL", "testing"),
        ("def f():\n    from .._boxes import losses", "_boxes"),
    ],
)
def test_a_planted_import_is_noticed(line: str, wall: str) -> None:
    assert imported(line, "jaxloss._regression") == {wall}
    assert wall not in allowed("_regression")


def test_what_is_below_may_be_imported() -> None:
    code = "from .._contract import inputs\nfrom .errors import errors\nimport jax"
    assert imported(code, "jaxloss._regression") <= allowed("_regression")
    assert imported("from .._contract import inputs", "jaxloss._numerics") == {"_contract"}
    assert "_contract" not in allowed("_numerics")


# The room for the compiler, `xla.py`, is named by what imports it.
PLATFORMS = re.compile(r"\b(XLA|LLVM|[CGT]PUs?|(?<!\.)cpu|gpu|tpu|cuda|rocm|platform_dependent)\b")


def named_in(code: str) -> list[str]:
    """The compilers and platforms that code, its comments included, names."""
    return PLATFORMS.findall(code)


@pytest.mark.parametrize("folder", ["_contract", *FAMILIES])
def test_no_loss_names_a_compiler_or_a_platform(folder: str) -> None:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        found = named_in(path.read_text())
        assert not found, f"{path.relative_to(ROOT)} names {sorted(set(found))}"


@pytest.mark.parametrize(
    "line", ["# XLA on CPU stores it", "if platform == 'cuda':", "jax.lax.platform_dependent(x)"]
)
def test_a_planted_platform_is_noticed(line: str) -> None:
    assert named_in(line)
    assert not named_in("from .._numerics import xla\nx = xla.either(f, g, x)")
