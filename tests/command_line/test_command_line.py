"""`python -m jaxloss`: what it prints, and how it answers what is asked wrongly."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pytest

import jaxloss
from tests.laws.public import LOSSES, ROOT, home

main = importlib.import_module("jaxloss.__main__").main
sections = importlib.import_module("jaxloss.__main__").sections
signature = importlib.import_module("jaxloss.__main__").signature


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def command(*words: str) -> Answer:
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        return Answer(int(status), str(out), str(err))

    yield command
    for name in set(sys.modules) - before:
        if name.startswith("mine"):
            del sys.modules[name]


def test_list(run: Run) -> None:
    status, out, err = run("list")
    assert (status, err) == (0, "")
    names = {line.split()[0] for line in out.splitlines() if "  " in line}
    assert names == {*LOSSES, "reduce"}
    assert "\nregression\n" in out
    assert "\033" not in out
    first = (inspect.getdoc(jaxloss.huber_loss) or "").partition("\n")[0]
    assert f"  {first}\n" in out


def test_list_of_a_family(run: Run) -> None:
    names = {line.split()[0] for line in run("list", "--family", "boxes").out.splitlines()}
    assert names == {name for name in LOSSES if home(name) == "boxes"}
    rows = json.loads(run("list", "--family", "ranking", "--json").out)
    assert {row["family"] for row in rows} == {"ranking"}
    assert {row["name"] for row in rows} == {name for name in LOSSES if home(name) == "ranking"}
    assert len(json.loads(run("list", "--json").out)) == len(LOSSES) + 1


def test_show(run: Run) -> None:
    status, out, err = run("show", "huber_loss")
    assert (status, err) == (0, "")
    head, *rest = out.splitlines()
    assert head == (
        "huber_loss(predictions, targets=None, *, delta=1.0, where=None, weights=None, "
        "reduction='none')"
    )
    assert "\n".join(rest).strip() == inspect.getdoc(jaxloss.huber_loss)
    assert run("show", "jaxloss.huber_loss").out == out


def test_show_of_what_is_no_loss(run: Run) -> None:
    out = run("show", "Mean").out
    assert out.startswith("Mean(total, weight)\n\nA weighted mean in two parts")
    assert set(json.loads(run("show", "Mean", "--json").out)["attributes"].split(":")) >= {"total"}
    assert run("show", "prox.l1").out.startswith("l1(scale)\n")
    for name in ("check_loss", "testing.check_loss", "jaxloss.testing.check_loss"):
        assert run("show", name).out.startswith("check_loss(loss, draw, *, oracle=None, laws=None)")
    assert run("show", "Kind").out.startswith("Kind(draw, edges=(), index=False, single=False, ")
    assert " at 0x" not in run("show", "Kind").out
    sentence = "The number of a class for each vector: an integer from 0."
    assert run("show", "CLASS") == (0, f"{sentence}\n", "")
    told = json.loads(run("show", "testing.CLASS", "--json").out)
    assert told == {"name": "testing.CLASS", "summary": sentence}


def test_show_as_json(run: Run) -> None:
    told = json.loads(run("show", "huber_loss", "--json").out)
    assert told["name"] == "huber_loss"
    assert told["family"] == "regression"
    assert told["formula"].splitlines()[0].split() == [
        "e^2",
        "/",
        "2",
        "where",
        "|e|",
        "<",
        "delta",
    ]
    assert set(told["args"]) == set(inspect.signature(jaxloss.huber_loss).parameters)
    assert told["args"]["where"] == "See `jaxloss.reduce`."
    assert told["reference"].startswith("Huber,")


@pytest.mark.parametrize("name", LOSSES)
def test_all_arguments_of_all_losses_are_read(name: str) -> None:
    function = getattr(jaxloss, name)
    told = sections(inspect.getdoc(function) or "")
    assert set(told["args"]) >= set(inspect.signature(function).parameters)
    assert all(told["args"].values())
    assert told["summary"]
    assert " at 0x" not in signature(function)


def test_colours_on_a_terminal_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = run("show", "l1_loss").out
    assert out.startswith("\033[1ml1_loss(")
    assert "\033[1mArgs:\033[0m\n" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in run("show", "l1_loss").out
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\033" not in run("show", "l1_loss").out


def drawn(path: str) -> set[str]:
    """The words in a picture."""
    return {x.text or "" for x in ET.parse(path).iter() if x.tag.endswith("text")}


def test_plot(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    words = ("l1_loss", "smooth_l1_loss", "huber_loss", "--delta", "0.5", "--out", "a/curves.svg")
    assert run("plot", *words, "--panels", "value") == (0, "a/curves.svg\n", "")
    assert {"l1_loss", "smooth_l1_loss", "huber_loss, delta = 0.5"} <= drawn("a/curves.svg")
    # Hyperparameters may stand before the losses, and be several, or negative.
    words = ("--alpha=-2,1", "--panels", "value", "general_robust_loss", "--domain", "-5,5")
    told = json.loads(run("plot", "--json", *words, "--out", "b.svg").out)
    assert told == {
        "picture": "b.svg",
        "losses": ["general_robust_loss"],
        "hyperparameters": {"alpha": [-2, 1]},
    }
    labels = {"general_robust_loss, alpha = -2", "general_robust_loss, alpha = 1"}
    assert labels | {"\N{MINUS SIGN}4"} <= drawn("b.svg")


def test_plot_by_default_and_over_a_plane(run: Run) -> None:
    words = ("hinge_loss", "--target", "1,-1", "--panels", "value")
    assert run("plot", *words) == (0, "hinge_loss.png\n", "")
    assert Path("hinge_loss.png").read_bytes().startswith(b"\x89PNG")
    answer = run("plot", "huber_loss", "--against", "delta", "--out", "c.png")
    assert answer == (0, "c.png\n", "")


MINE = """
import jax.numpy as jnp

def squared(predictions, targets):
    return (predictions - targets) ** 2

def faulty(predictions, targets):
    return jnp.sqrt((predictions - targets) ** 2)

def truth(prediction, target):
    return (prediction - target) ** 2

def raises(predictions, targets):
    raise ValueError("it is wrong\\nsay --this")

def needs(predictions, targets, *, delta):
    return squared(predictions, targets) * delta

def needs_three(predictions, targets, noise):
    return squared(predictions, targets) / noise

number = 3
"""


def test_a_users_loss_is_drawn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine_to_draw.py").write_text(MINE)
    for name in ("mine_to_draw:squared", "mine_to_draw.py:squared"):
        answer = run("plot", name, "l2_loss", "--out", "d.png", "--panels", "value")
        assert answer == (0, "d.png\n", "")


def test_a_users_loss_that_needs_an_option_is_drawn(run: Run) -> None:
    Path("mine.py").write_text(MINE)
    words = ("--panels", "value", "--out", "d.png")
    assert run("plot", "mine.py:needs", "--delta", "2", *words) == (0, "d.png\n", "")
    assert run("plot", "mine.py:needs_three", "--noise", "2", *words) == (0, "d.png\n", "")
    # The upright axis gives it.
    words = ("--against", "delta", "--out", "e.png")
    assert run("plot", "mine.py:needs", *words) == (0, "e.png\n", "")


class Finding:
    def __init__(self, outcome: str) -> None:
        self.law, self.outcome = "accurate", outcome


class Report(NamedTuple):
    loss: str
    findings: tuple[Any, ...]

    def __bool__(self) -> bool:
        return self.findings[0].outcome != "failed"

    def __str__(self) -> str:
        return f"{self.loss}: 1 law\n\nbroken: accurate"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `check_loss` is asked, in its place."""
    calls: list[Any] = []

    class Kind:
        pass

    class Testing:
        REAL, LOGITS, LABELS, CLASS, POSITIVE, SIGN = (Kind() for _ in range(6))
        LAWS = ("accurate", "inert")
        __all__ = ()

        @staticmethod
        def check_loss(loss: Any, draw: Any, *, oracle: Any, laws: Any) -> Report:
            names = [k for kind in draw for k, v in vars(Testing).items() if v is kind]
            calls.append((loss, names, oracle, laws))
            if len(names) == 1:
                raise ValueError("it takes two")
            return Report("it", (Finding("failed" if "faulty" in str(loss) else "passed"),))

    Testing.Kind = Kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jaxloss.testing", Testing)  # type: ignore[arg-type]
    return calls


def test_check(run: Run, asked: list[Any]) -> None:
    Path("mine.py").write_text(MINE)
    status, out, err = run("check", "mine:squared")
    assert (status, out, err) == (0, "it: 1 law\n\nbroken: accurate\n", "")
    loss, kinds, oracle, laws = asked[-1]
    assert (loss.__name__, kinds, oracle, laws) == ("squared", ["REAL", "REAL"], None, None)
    status, out, _ = run("check", "mine.py:faulty", "--json", "--laws", "accurate,inert")
    assert status == 1
    assert json.loads(out) == {
        "loss": "it",
        "drawn": ["REAL", "REAL"],
        "kept": False,
        "findings": [{"law": "accurate", "outcome": "failed"}],
    }
    assert asked[-1][3] == ["accurate", "inert"]
    # What was guessed is said where it may be the reason.
    guess = "\n\ndrawn, by the names of the arguments: REAL,REAL; --draw says otherwise\n"
    assert run("check", "mine.py:faulty").out.endswith(guess)
    assert "drawn" not in run("check", "mine.py:faulty", "--draw", "REAL,REAL").out
    run("check", "mine:squared", "--draw", "LOGITS,CLASS", "--oracle", "mine:truth", "--delta", "2")
    loss, kinds, oracle, _ = asked[-1]
    assert (loss.keywords, kinds, oracle.__name__) == ({"delta": 2}, ["LOGITS", "CLASS"], "truth")


def test_kinds_by_the_names_of_arguments(run: Run, asked: list[Any]) -> None:
    Path("mine.py").write_text("def ranked(logits, label): ...")
    for name, kinds in {
        "mine.py:ranked": ["LOGITS", "CLASS"],
        "huber_loss": ["REAL", "REAL"],
        "sigmoid_binary_cross_entropy": ["LOGITS", "LABELS"],
        "softmax_cross_entropy_with_integer_labels": ["LOGITS", "CLASS"],
        "gaussian_nll_loss": ["REAL", "REAL", "POSITIVE"],
        "cosine_embedding_loss": ["REAL", "REAL", "SIGN"],
        "vicreg_loss": ["REAL", "REAL"],
    }.items():
        assert run("check", name).status == 0
        assert asked[-1][1] == kinds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: list | show | plot | check"),
        (["lst"], "argument list | show | plot | check: invalid choice: 'lst'"),
        (["list", "--famly", "x"], "unrecognized arguments: --famly x"),
        (["list", "--family", "regresion"], "no family is called 'regresion'; there are binary, "),
        (["show"], "the following arguments are required: name"),
        (["show", "hubr_loss"], "nothing is called 'hubr_loss'; did you mean 'huber_loss'?"),
        (["show", "mse_loss"], "nothing is called 'mse_loss'; here it is squared_error("),
        (["show", "xyzzy"], "nothing is called 'xyzzy'\n"),
        (["show", "prox"], "prox is a module, of Loss, Penalty, box, "),
        (["show", "Where"], "Where takes no arguments; `show reduce` and the site say what it is"),
        (["plot"], "the following arguments are required: losses"),
        (["plot", "l1_los"], "no loss is called 'l1_los'; did you mean 'l1_loss'?"),
        (["plot", "l1_loss", "--out", "x.txt"], "--out must end in one of .png .svg .pdf .jpg"),
        (["plot", "l1_loss", "--out", "file/x.png"], "cannot write 'file/x.png': "),
        (["plot", "l1_loss", "--delta", "1"], "l1_loss takes no delta\n"),
        (["plot", "l1_loss", "--delta"], "--delta needs a value, as in --delta 0.5\n"),
        (["plot", "huber_loss", "--delta", "big"], "huber_loss cannot be drawn along 'error: "),
        (["plot", "l1_loss", "--domain", "3"], "domain must be a pair of numbers, got int 3\n"),
        (["plot", "l1_loss", "--panels", "slope"], "panels must be some of 'value', 'gradient', "),
        (["plot", "l1_loss", "hinge_loss"], "no axis suits all these losses ("),
        (
            ["plot", "l1_loss", "l2_loss", "--against", "x"],
            "--against draws one loss, over a plane",
        ),
        (
            ["plot", "l1_loss", "--against", "targets"],
            "against must name a hyperparameter of l1_loss, not its data\n",
        ),
        (
            ["plot", "mine.py:raises"],
            "raises cannot be drawn along 'error: prediction - target': it is wrong say --this; ",
        ),
        (["plot", "mine.py:needs"], "the loss needs a value of delta, as in --delta 1.0\n"),
        (["plot", "mine.py:needs_three"], "the loss needs a value of noise, as in --noise 1.0"),
        (["plot", "Mean"], "no loss is called 'Mean'; one of your own is written mymodule:my_loss"),
        (["plot", "multi_hot"], "multi_hot is no function of a number that a line could show\n"),
        (
            ["plot", "nowhere:loss"],
            "cannot import 'nowhere': ModuleNotFoundError: No module named ",
        ),
        (["plot", "broken.py:loss"], "cannot import 'broken.py': ZeroDivisionError: division by"),
        (["plot", "missing.py:loss"], "cannot import 'missing.py': FileNotFoundError: "),
        (["plot", "mine.py:lost"], "mine.py has no function 'lost'\n"),
        (["plot", "mine.py:number"], "mine.py has no function 'number'\n"),
        (["check", "mine.py:squared", "--draw", "real"], "--draw knows no kind 'real'; there are "),
        (
            ["check", "mine.py:squared", "--laws", "acurate"],
            "no law is called 'acurate'; did you mean 'accurate'?\n",
        ),
        (
            ["check", "mine.py:squared", "--laws", "xyz"],
            "no law is called 'xyz'; there are accurate, inert\n",
        ),
        (
            ["check", "mine.py:squared", "--draw", "REAL"],
            "it takes two (drawn: REAL; --draw says otherwise)\n",
        ),
        (["check", "mine.py:needs"], "the loss needs a value of delta, as in --delta 1.0\n"),
        (["check", "quantile_loss"], "the loss needs a value of quantile, as in --quantile 1"),
        (
            ["check", "myown"],
            "no loss is called 'myown'; one of your own is written mymodule:my_los",
        ),
        (["check", ":f"], "':f' is half a name; one of your own is written mymodule:my_loss or "),
        (["check", "mine:"], "'mine:' is half a name; one of your own is written mymodule:my_loss"),
    ],
)
def test_a_mistake_is_one_line(run: Run, asked: list[Any], words: list[str], message: str) -> None:
    Path("file").touch()
    Path("mine.py").write_text(MINE)
    Path("broken.py").write_text("1 / 0\n")
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith(f"python -m jaxloss: error: {message}")
    assert err.count("\n") == 1


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"jaxloss {jaxloss.__version__}\n", "")
    for words in (["--help"], ["plot", "--help"], ["check", "--help"]):
        status, out, err = run(*words)
        assert (status, err) == (0, "")
        assert out.startswith("usage: python -m jaxloss")


def test_as_a_program(tmp_path: Path) -> None:
    """Started as users start it, its reader gone after a line."""
    start = [sys.executable, "-W", "error", "-m", "jaxloss"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    wrong = subprocess.run(
        [*start, "show", "l3_loss"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "did you mean 'l1_loss'?" in wrong.stderr or "'l2_loss'" in wrong.stderr
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run(
        [*start, "list"], stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    )
    os.close(writer)
    assert gone.returncode == 0
    assert gone.stderr == b""
