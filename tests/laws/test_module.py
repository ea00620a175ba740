"""What `help`, `dir` and a name that is not there show of the module."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxloss
from jaxloss._help import CALLED_ELSEWHERE
from tests.laws.public import LOSSES, PUBLIC, SUBMODULES, TYPES, home


def test_all_that_is_public_is_listed() -> None:
    assert set(PUBLIC) == {*LOSSES, "reduce", *TYPES}
    assert sorted(PUBLIC) == PUBLIC
    space: dict = {}
    exec("from jaxloss import *", space)
    assert space.keys() - {"__builtins__"} == set(PUBLIC)


def test_dir_shows_nothing_private() -> None:
    shown = [name for name in dir(jaxloss) if not re.fullmatch("__.*__", name)]
    assert shown == sorted({*PUBLIC, *SUBMODULES})
    assert "__version__" in dir(jaxloss)


def test_help_lists_every_function_in_its_family() -> None:
    text = jaxloss.__doc__ or ""
    intro, *families = text.strip("\n").split("\n\n" + "Losses of yes-or-no", 1)
    assert all(f"`{name}" in intro for name in TYPES)
    found = {}
    for block in ("Losses of yes-or-no" + families[0]).split("\n\n"):
        title, *lines = block.split("\n")
        for line in lines:
            name, first = line.split(maxsplit=1)
            assert first == (getattr(jaxloss, name).__doc__ or "").split("\n")[0]
            found.setdefault(name, []).append(title)
    assert found.keys() == {*LOSSES, "reduce"}
    for name, titles in found.items():
        family = sys.modules[f"jaxloss._{home(name)}"].__doc__ or ""
        assert [family.startswith(title) for title in titles] == [True], name


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("mse_loss", r'; here it is squared_error\(predictions, targets, reduction="mean"\)'),
        ("BCEWithLogitsLoss", r"; here it is sigmoid_binary_cross_entropy\(logits, labels, .*\)"),
        (
            "cross_entropy",
            r"; here it is softmax_cross_entropy_with_integer_labels\(.*\) or "
            r"softmax_cross_entropy\(.*\)",
        ),
        ("mean_square_error", r"; here it is squared_error\(.*\)"),
        ("l1_los", "; did you mean 'l1_loss'\\?"),
        ("huberloss", "; did you mean 'huber_loss'\\?"),
        ("xyzzy", ""),
        ("_l1_loss", ""),
    ],
)
def test_a_name_that_is_not_there(name: str, answer: str) -> None:
    assert not hasattr(jaxloss, name)
    with pytest.raises(AttributeError) as error:
        getattr(jaxloss, name)
    assert re.fullmatch(f"module 'jaxloss' has no attribute '{name}'{answer}", str(error.value))
    with pytest.raises(ImportError) as refused:
        exec(f"from jaxloss import {name}")
    where = "" if answer else r" \(.*__init__.py\)"
    message = f"cannot import name '{name}' from 'jaxloss'{where}{answer}"
    assert re.fullmatch(message, str(refused.value))


def test_python_adds_no_guess() -> None:
    code = "import jaxloss; jaxloss.l1_los"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stderr.endswith("has no attribute 'l1_los'; did you mean 'l1_loss'?\n")


def test_a_submodule_of_such_a_name_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "l1_los.py").write_text("found = True\n")
    monkeypatch.setattr(jaxloss, "__path__", [*jaxloss.__path__, str(tmp_path)])
    space: dict = {}
    try:
        exec("from jaxloss import l1_los", space)
        assert space["l1_los"].found
    finally:
        sys.modules.pop("jaxloss.l1_los", None)
        jaxloss.__dict__.pop("l1_los", None)


def test_tools_find_no_names_that_are_not_there() -> None:
    assert pickle.loads(pickle.dumps(jaxloss.l1_loss)) is jaxloss.l1_loss
    assert inspect.unwrap(jaxloss) is jaxloss  # type: ignore[arg-type]
    assert "mse_loss" not in dict(inspect.getmembers(jaxloss))


def test_what_is_named_otherwise_can_be_called_so() -> None:
    """By the parameters' own names, in their order."""
    for call, names in CALLED_ELSEWHERE.items():
        assert not set(names.split()) & set(PUBLIC)
        name, given = re.findall(r"(\w+)\(([^()]*)\)", call)[0]
        words = [word for word in given.split(", ") if "=" not in word]
        options = dict(word.split("=") for word in given.split(", ") if "=" in word)
        signature = inspect.signature(getattr(jaxloss, name))
        assert list(signature.bind(*words, **options).arguments)[: len(words)] == words


def imported_by(code: str) -> set[str]:
    """The modules that a fresh process has imported after this code."""
    show = f"{code}; import sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


# What a user of losses need not have, and what takes long.
OTHERS = {"hypothesis", "matplotlib", "mpmath", "optax", "pytest", "scipy.optimize"}


def test_what_is_imported_by_itself() -> None:
    assert not imported_by("import jaxloss") & OTHERS
    submodules = {f"jaxloss.{name}" for name in SUBMODULES}
    assert not imported_by("import jaxloss") & submodules
    assert not imported_by("import jaxloss.testing") & OTHERS
