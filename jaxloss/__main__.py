"""The command line: `python -m jaxloss list | show | plot | check`.

    python -m jaxloss list --family regression
    python -m jaxloss show huber_loss
    python -m jaxloss plot l1_loss smooth_l1_loss huber_loss --delta 0.5 --out curves.png
    python -m jaxloss check mymodule:my_loss

What is asked wrongly is answered in one line, with exit status 2.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jaxloss

from ._named import Mistake, family_of, functions, loss_of, public, summary_of

PROGRAM = "python -m jaxloss"
PICTURES = (".png", ".svg", ".pdf", ".jpg")
# Options of the command itself; any other is a hyperparameter of the loss.
OWN = {
    "plot": ("--against", "--domain", "--help", "--json", "--out", "--panels", "--target"),
    "check": ("--draw", "--help", "--json", "--laws", "--oracle"),
}
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Reference", "Example")


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{PROGRAM}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The words after `python -m jaxloss`; those of this process if None.

    Returns:
        The exit status: 0; 1 if a loss breaks a law; 2 if something was asked wrongly.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        words, options = _hyperparameters(words)
        asked = _parser().parse_args(words)
        return asked.run(asked, options)
    except Mistake as mistake:
        print(f"{PROGRAM}: error: {' '.join(str(mistake).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Who reads has read enough: `list | head`. Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Loss functions for JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jaxloss {jaxloss.__version__}")
    commands = parser.add_subparsers(required=True, metavar="list | show | plot | check")

    def command(run: Callable[..., int], name: str, text: str) -> Parser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    listing = command(_list, "list", "All losses, a line each, family by family.")
    listing.add_argument("--family", help="regression, binary, multiclass, ...")
    showing = command(
        _show, "show", "Signature, formula and arguments of a loss, or of another public name."
    )
    showing.add_argument("name", help="such as huber_loss, Mean or prox.l1")
    drawing = command(
        _plot, "plot", "Draw losses; --delta 0.5 sets a hyperparameter, --delta 0.5,1,2 draws each."
    )
    drawing.add_argument("losses", nargs="+", help="huber_loss, or mymodule:my_loss")
    drawing.add_argument("--out", help="the picture: .png, .svg, .pdf or .jpg")
    drawing.add_argument("--panels", help="of value,gradient,curvature")
    drawing.add_argument("--domain", help="from where to where, as in --domain=-3,3")
    drawing.add_argument("--target", help="the target or label, or several: 0,1")
    drawing.add_argument("--against", help="draw one loss over a plane, this hyperparameter up")
    checking = command(_check, "check", "Run the laws of jaxloss on a loss; status 1 if one fails.")
    checking.add_argument("loss", help="mymodule:my_loss, file.py:my_loss or huber_loss")
    checking.add_argument(
        "--draw", help="kinds of the arguments, such as REAL,REAL or LOGITS,CLASS"
    )
    checking.add_argument("--oracle", help="mymodule:formula, to compare digits with")
    checking.add_argument("--laws", help="only these, by name: accurate,half_precision")
    return parser


def _hyperparameters(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The words without the options that are none of ours, and those as numbers by name."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in OWN:
        return words, {}
    kept, options, rest = [], {}, iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("--") or name in OWN[command]:
            kept.append(word)
            if not equals and name in OWN[command] and name not in ("--json", "--help"):
                # The value, which may begin with a minus.
                kept[-1:] = [f"{name}={value}" for value in [next(rest, None)] if value is not None]
            continue
        value = value if equals else next(rest, "--")
        if value.startswith("--"):
            raise Mistake(f"{name} needs a value, as in {name} 0.5")
        options[name[2:].replace("-", "_")] = _value(value)
    return kept, options


def _value(text: str) -> Any:
    """A number, a word, or a list of them between commas."""
    values = [_literal(part) for part in text.split(",")]
    return values if len(values) > 1 else values[0]


def _literal(text: str) -> Any:
    if text.strip("+-").lower() in ("inf", "nan"):
        return float(text)
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return text


# What is printed.


def _bold(text: str) -> str:
    """Bold on a terminal that has not been told otherwise, plain in a pipe."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    plain = bool(os.environ.get("NO_COLOR")) or not terminal
    return text if plain else f"\033[1m{text}\033[0m"


def _as_json(value: Any) -> int:
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return 0


def _list(asked: argparse.Namespace, _: Any) -> int:
    rows = [(family_of(f), name, summary_of(f)) for name, f in functions().items()]
    families = sorted({family for family, *_ in rows})
    if asked.family is not None:
        if asked.family not in families:
            known = ", ".join(families)
            raise Mistake(f"no family is called {asked.family!r}; there are {known}")
        families = [asked.family]
    rows = [row for row in rows if row[0] in families]
    if asked.json:
        return _as_json([dict(zip(("family", "name", "summary"), x, strict=True)) for x in rows])
    for i, family in enumerate(families):
        if len(families) > 1:
            print(("\n" if i else "") + _bold(family))
        names = [(name, summary) for own, name, summary in rows if own == family]
        width = max(len(name) for name, _ in names)
        for name, summary in names:
            print(f"{name:{width}}  {summary}")
    return 0


def _show(asked: argparse.Namespace, _: Any) -> int:
    function = public(asked.name)
    about = getattr(function, "about", "")
    if about:
        return _as_json({"name": asked.name, "summary": about}) if asked.json else print(about) or 0
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        raise Mistake(f"{asked.name} takes no arguments; `show reduce` and the site say what it is")
    text = inspect.getdoc(function) or ""
    told = {"name": function.__name__, "family": family_of(function)}
    told |= {"signature": signature(function), **sections(text)}
    if asked.json:
        return _as_json(told)
    print(_bold(told["signature"]) + "\n")
    heads = "|".join(SECTIONS)
    print(re.sub(rf"^({heads}):$", lambda found: _bold(found[0]), text, flags=re.M))
    return 0


def signature(function: Callable[..., Any]) -> str:
    """`huber_loss(predictions, targets=None, *, delta=1.0, ...)`, without annotations."""
    whole = inspect.signature(function)
    parameters = [x.replace(annotation=x.empty) for x in whole.parameters.values()]
    bare = str(whole.replace(parameters=parameters, return_annotation=whole.empty))
    bare = re.sub(r"<function [\w.<>]*<lambda> at 0x\w+>", "...", bare)
    return function.__name__ + re.sub(r"<function (\w+) at 0x\w+>", r"\1", bare)


def sections(text: str) -> dict[str, Any]:
    """What a docstring says: summary, formula, words, arguments, and so on.

    Args:
        text: The docstring.
    """
    head, *rest = re.split(rf"^({'|'.join(SECTIONS)}):\n", text, flags=re.M)
    summary, _, words = head.partition("\n")
    lines = words.strip("\n").split("\n")
    formula = inspect.cleandoc("\n".join(x for x in lines if x.startswith("    ")))
    words = " ".join(x.strip() for x in lines if x.strip() and not x.startswith("    "))
    told: dict[str, Any] = {"summary": summary, "formula": formula, "words": words}
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        # What is not indented any more belongs to the words.
        body, *more = re.split(r"\n(?=\S)", body, maxsplit=1)
        told[name.lower()] = inspect.cleandoc(body.strip("\n"))
        told["words"] = " ".join([told["words"], *"".join(more).split()]).strip()
    entries = re.split(r"^(?=\S)", told.pop("args", ""), flags=re.M)
    told["args"] = {
        name: " ".join(said.split())
        for names, _, said in (entry.partition(":") for entry in entries if entry.strip())
        for name in names.replace("*", "").split(", ")
    }
    return told


def _plot(asked: argparse.Namespace, options: dict[str, Any]) -> int:
    names = list(dict.fromkeys(asked.losses))
    losses = [loss_of(name) for name in names]
    if asked.against and len(losses) > 1:
        raise Mistake("--against draws one loss, over a plane")
    shown = "-".join(re.sub(r"\W", "_", name) for name in names)
    path = Path(asked.out or f"{shown[:80]}.png")
    if path.suffix.lower() not in PICTURES:
        raise Mistake(f"--out must end in one of {' '.join(PICTURES)}, got {str(path)!r}")
    for loss in losses:
        # What ours need, the line that they are drawn along gives.
        if getattr(loss, "__module__", "") != "jaxloss":
            further = [
                x for i, x in enumerate(_parameters(loss)) if i > 1 or x.kind is x.KEYWORD_ONLY
            ]
            _check_given(further, {**options, asked.against: None})
    given = {
        key: _value(getattr(asked, key)) for key in ("target", "domain") if getattr(asked, key)
    }
    given = {
        key: tuple(x) if key == "domain" and isinstance(x, list) else x for key, x in given.items()
    }
    try:
        from .plotting import plot_loss, plot_surface

        if asked.against:
            given |= {"domain": _two(given.pop("domain"))} if "domain" in given else {}
            picture = plot_surface(losses[0], against=asked.against, **given, **options)
        else:
            given |= {"panels": asked.panels.split(",")} if asked.panels else {}
            picture = plot_loss(*losses, **given, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path)
    except OSError as error:
        raise Mistake(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    except (TypeError, ValueError, ModuleNotFoundError) as error:
        raise Mistake(str(error)) from None
    if asked.json:
        return _as_json({"picture": str(path), "losses": names, "hyperparameters": options})
    print(path)
    return 0


def _two(numbers: Sequence[Any]) -> Any:
    """Both sides of a plane from four numbers; of two, the level one alone is not enough."""
    if len(numbers) != 4:
        raise Mistake("--domain of a plane has four numbers: of the level axis, of the upright one")
    return tuple(numbers[:2]), tuple(numbers[2:])


# The kinds of arguments, by their names; what is not here is real.
KINDS = {
    "logits": "LOGITS",
    "student_logits": "LOGITS",
    "teacher_logits": "LOGITS",
    "labels": "LABELS",
    "label": "CLASS",
    "log_predictions": "LOG_PROBABILITIES",
    "log_targets": "LOG_PROBABILITIES",
    "variance": "POSITIVE",
    "scale": "POSITIVE",
    "dispersion": "POSITIVE",
    "df": "POSITIVE",
    "distances": "NON_NEGATIVE",
}


def _check(asked: argparse.Namespace, options: dict[str, Any]) -> int:
    loss = loss_of(asked.loss)
    try:
        testing = importlib.import_module("jaxloss.testing")
    except ModuleNotFoundError as error:
        raise Mistake(f"the laws need {error.name}: pip install 'jaxloss[test]'") from None
    kinds = asked.draw.split(",") if asked.draw else _usual_kinds(loss, options)
    _check_given([x for x in _parameters(loss) if x.kind is x.KEYWORD_ONLY], options)
    known = sorted(x for x, kind in vars(testing).items() if isinstance(kind, testing.Kind))
    for kind in kinds:
        if kind not in known:
            raise Mistake(f"--draw knows no kind {kind!r}; there are {', '.join(known)}")
    draw = tuple(getattr(testing, kind) for kind in kinds)
    given = functools.partial(loss, **options) if options else loss
    oracle = loss_of(asked.oracle) if asked.oracle else None
    laws = asked.laws.split(",") if asked.laws else None
    for law in laws or ():
        if law not in testing.LAWS:
            raise Mistake(f"no law is called {law!r}{_nearest(law, testing.LAWS)}")
    try:
        report = testing.check_loss(given, draw, oracle=oracle, laws=laws)
    except (TypeError, ValueError) as error:
        raise Mistake(f"{error} (drawn: {','.join(kinds)}; --draw says otherwise)") from None
    if asked.json:
        rows = [vars(finding) for finding in report.findings]
        kept = bool(report)
        _as_json({"loss": report.loss, "drawn": kinds, "kept": kept, "findings": rows})
    else:
        head, _, rest = str(report).partition("\n")
        print("\n".join([_bold(head), rest]).rstrip("\n"))
        if not (report or asked.draw):
            guessed = f"drawn, by the names of the arguments: {','.join(kinds)}"
            print(f"\n{guessed}; --draw says otherwise")
    return 0 if report else 1


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def _usual_kinds(loss: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """By the names of the first two parameters, and of further ones that have no default."""
    data = [
        x.name
        for i, x in enumerate(_parameters(loss))
        if x.kind is not x.KEYWORD_ONLY
        and (i < 2 or x.default is x.empty)
        and x.name not in options
    ]
    classes = getattr(loss, "__module__", "") == "jaxloss" and family_of(loss) == "multiclass"
    kinds = {**KINDS, **({"labels": "CLASS"} if classes else {})}
    kinds |= {"y": "SIGN"} if data[2:] == ["y"] else {}
    return [kinds.get(name, "REAL") for name in data] or ["REAL", "REAL"]


def _check_given(parameters: Iterable[inspect.Parameter], options: Mapping[str, Any]) -> None:
    """Refuse a call without an option that the loss needs, with what to add to the command."""
    for x in parameters:
        if x.default is x.empty and x.name not in options:
            option = x.name.replace("_", "-")
            raise Mistake(f"the loss needs a value of {x.name}, as in --{option} 1.0")


def _parameters(loss: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those with a name."""
    try:
        found = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):
        return []
    return [x for x in found if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)]


if __name__ == "__main__":
    sys.exit(main())
