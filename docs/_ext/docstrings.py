"""Docstrings and signatures as autodoc and napoleon want them.

The docstrings are written for `help()`: formulas are indented, `|e|` and `2 * x` are themselves,
and single backticks mark code. reStructuredText takes an indented paragraph for a quotation, stars
and bars for markup. This adapter stands before napoleon, and the docstrings stay as they are.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import drawn
import jax
import jaxtyping
from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Reference|References|Example|Note):$")
# What fits a phone, in characters: in ordinary letters, and in small ones.
SHORT, WIDEST = 40, 60
# Public types of arguments, which have pages of their own.
NAMED = ("Where", "Weights", "Reduction")


def adapted(lines: Sequence[str], before_arguments: Sequence[str] = ()) -> list[str]:
    """A docstring in reStructuredText with google sections.

    Args:
        lines: The docstring, without indentation.
        before_arguments: What to put where the sections begin.
    """
    section, written, code, start = "", [], False, 0
    for line in lines:
        if SECTION.match(line):
            if not section:
                written += [*before_arguments, ""]
            section, code = SECTION.match(line)[1], False
            written.append(line)
        elif section == "Example":
            written.append(line)
        elif not section and line.startswith("    "):
            if not code:
                start = len(written)
                written += [".. code-block:: text", "   :class: formula", ""]
            code = True
            pieces = wrapped(line[4:])
            written += [f"   {piece}" for piece in pieces]
            # On a phone a line of 60 characters takes smaller letters than one of 40.
            if max(map(len, pieces)) > SHORT:
                written[start + 1] = "   :class: formula long"
        else:
            code = code and not line
            written.append(_prose(line))
    return written if section else [*written, "", *before_arguments]


def wrapped(line: str, width: int = WIDEST) -> list[str]:
    """A line of a formula in pieces that fit: broken at a gap, a comma, a sign or a word.

    The break that is least deep in brackets is best, then the one farthest to the right.

    Args:
        line: The line, with its indentation.
        width: The most characters of a piece.
    """
    if len(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip())
    depth, best = 0, (-99, 0, 0)
    for at, letter in enumerate(line[: width + 1]):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == " " and at > indent + 8:
            gap = line[at : at + 2] == "  " or line[at - 1] in ",;:"
            sign = re.match(r" [-+*/=] ", line[at:]) is not None
            best = max(best, (-depth, 2 if gap else int(sign), at))
    at = best[2] or line.rfind(" ", indent + 1, width + 1)
    if at <= indent:
        return [line]
    rest = " " * (indent + 4) + line[at:].strip()
    return [line[:at].rstrip(), *wrapped(rest, width)]


def _prose(line: str) -> str:
    """A line of text in which only single backticks are markup."""
    named = re.match(r"\s+\*{1,2}\w+:", line)  # `*args:`, which napoleon escapes
    start = named.end() if named else 0
    pieces = re.split(r"(`[^`]*`)", line[start:])
    text = [
        piece if piece.startswith("`") else re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", piece)
        for piece in pieces
    ]
    # Code that a letter follows, as in `Mean`s, ends with an empty escape.
    for at in range(1, len(text), 2):
        if re.match(r"\w", text[at + 1]):
            text[at] += "\\ "
        if re.search(r"[\w.]$", text[at - 1]):
            text[at] = f"\\ {text[at]}"
    return line[:start] + "".join(text)


def signature(function: Callable[..., Any]) -> tuple[str, str]:
    """The arguments and the result of a function, as a reader writes them."""
    spoken = inspect.signature(function)
    made = function.__init__ if inspect.isclass(function) else function
    space = getattr(inspect.unwrap(made), "__globals__", {})
    parameters = [
        parameter.replace(
            annotation=_verbatim(annotation(parameter.annotation, space)),
            default=_verbatim(default(parameter.default)),
        )
        if parameter.default is not parameter.empty
        else parameter.replace(annotation=_verbatim(annotation(parameter.annotation, space)))
        for parameter in spoken.parameters.values()
    ]
    result = annotation(spoken.return_annotation, space)
    plain = spoken.replace(parameters=parameters, return_annotation=spoken.empty)
    return str(plain), result


class _Verbatim:
    """A piece of a signature that is printed as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _verbatim(text: str) -> Any:
    return _Verbatim(text) if text else inspect.Parameter.empty


def default(value: Any) -> str:
    """A default: functions and classes by name."""
    if inspect.isfunction(value) or inspect.isclass(value) or hasattr(value, "__wrapped__"):
        module = inspect.getmodule(value)
        ours = "jnp." if module and module.__name__.startswith("jax.") else ""
        return "..." if value.__name__ == "<lambda>" else f"{ours}{value.__name__}"
    return repr(value)


def annotation(written: Any, space: dict[str, Any]) -> str:
    """An annotation without the aliases of jaxtyping; "" if there is none.

    Args:
        written: What stands in the code: text, or its value.
        space: The names of the module it stands in.
    """
    if written is inspect.Parameter.empty:
        return ""
    if isinstance(written, str) and written in NAMED:
        return written
    if isinstance(written, str):
        try:
            written = eval(written, dict(space))
        except Exception:  # a name for type checkers alone, or dimensions that only they take
            shown = written.rpartition(".")[2] if re.fullmatch(r"[\w.]+", written) else written
            return "ArrayLike" if "[ArrayLike" in written else shown
    return " | ".join(dict.fromkeys(_parts(written, space)))


def _parts(value: Any, space: dict[str, Any]) -> list[str]:
    """The members of a type; arrays of any kind, and lists that stand for them, are ArrayLike."""
    origin, arguments = typing.get_origin(value), typing.get_args(value)
    if origin in (typing.Union, types.UnionType):
        parts = [part for argument in arguments for part in _parts(argument, space)]
        if not {"ArrayLike", "ndarray"}.intersection(parts):
            return parts
        return ["ArrayLike", *(x for x in parts if x in ("None", "Callable"))]
    if isinstance(value, type) and issubclass(value, jaxtyping.AbstractArray):
        return _parts(value.array_type, space)
    if value is None or value is type(None):
        return ["None"]
    if value is Ellipsis:
        return ["..."]
    if isinstance(value, str):
        return [annotation(value, space)]
    if origin is typing.Literal:
        return [repr(x) for x in arguments]
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        if name == "Callable" or not arguments:
            return [name]
        inner = ", ".join(" | ".join(dict.fromkeys(_parts(x, space))) for x in arguments)
        return [f"{name}[{inner}]"]
    if getattr(value, "_is_protocol", False):
        return ["Callable"]
    if value is jax.sharding.PartitionSpec:
        return ["PartitionSpec"]  # Its class is called P.
    return [getattr(value, "__name__", str(value)).rpartition(".")[2]]


def _process_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    short = name.removeprefix("jaxloss.")
    picture = [".. picture:: " + short, ""] if short in drawn.names_drawn() else []
    lines[:] = adapted(lines, picture)


def _process_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, shown: str, result: str
) -> tuple[str, str] | None:
    if inspect.isfunction(obj) or inspect.ismethod(obj):
        arguments, returns = signature(obj)
        if what == "method":
            arguments = re.sub(r"^\((self|cls)(, )?", "(", arguments)
        return arguments, returns
    if inspect.isclass(obj):
        return signature(obj)[0], ""
    return None


def _code(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: dict[str, Any] | None = None,
    content: Sequence[str] = (),
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    return [nodes.literal(rawtext, text)], []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the adapter, and code as what single backticks mean."""
    app.add_role("name", _code)
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)
    app.connect("autodoc-process-signature", _process_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
