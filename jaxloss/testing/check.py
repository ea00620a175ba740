"""The laws on a loss: what they found, and as tests."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import calls, edges, masks, values
from .inference import Draw, subject_of
from .subject import DoesNotApply, Subject
from .subject import Law as Judge

# In the order of a report: what is wrong most often comes first.
_LAWS: tuple[Judge, ...] = (*edges.LAWS, *values.LAWS, *calls.LAWS, *masks.LAWS)
LAWS: dict[str, Judge] = {law.__name__: law for law in _LAWS}


@dataclass(frozen=True)
class Finding:
    """What a law said of a loss.

    Attributes:
        law: The name of the law.
        states: The law in one sentence.
        outcome: "passed"; "failed"; "skipped", where it has nothing to say of the loss.
        message: What is wrong and the input that shows it, or why the law does not apply.
    """

    law: str
    states: str
    outcome: Literal["passed", "failed", "skipped"]
    message: str = ""

    def __str__(self) -> str:
        """The law and what it found."""
        return f"{self.law}: {self.message or self.outcome}"


@dataclass(frozen=True)
class Report:
    """What the laws said of a loss; true if none failed, and as text readable.

    Attributes:
        loss: The name of the loss.
        findings: One for each law.

    Example:
        >>> report = check_loss(jaxloss.l1_loss, (REAL, REAL), laws=["pickled_by_name"])
        >>> report.passed
        (Finding(law='pickled_by_name', states='`pickle` brings back the same function.',
        outcome='passed', message=''),)
        >>> report.raise_if_failed()
    """

    loss: str
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The laws that the loss breaks."""
        return tuple(x for x in self.findings if x.outcome == "failed")

    @property
    def passed(self) -> tuple[Finding, ...]:
        """The laws that it keeps."""
        return tuple(x for x in self.findings if x.outcome == "passed")

    @property
    def skipped(self) -> tuple[Finding, ...]:
        """The laws that do not apply, each with the reason."""
        return tuple(x for x in self.findings if x.outcome == "skipped")

    def __bool__(self) -> bool:
        """Whether no law is broken."""
        return not self.failures

    def __repr__(self) -> str:
        """The report as text."""
        return str(self)

    def __str__(self) -> str:
        """What is broken, with the input that shows it; what is kept; what does not apply."""
        counts = (
            f"{_laws(len(self.passed))} kept, {len(self.failures)} broken, "
            f"{len(self.skipped)} do not apply"
        )
        lines = [f"{self.loss}: {counts}"]
        for x in self.failures:
            lines += ["", f"broken: {x.law}", _wrapped(x.states), _wrapped(x.message)]
        if self.passed:
            lines += ["", "kept:", _wrapped(", ".join(x.law for x in self.passed))]
        if self.skipped:
            lines += ["", "do not apply:", *(_wrapped(str(x)) for x in self.skipped)]
        return "\n".join(lines)

    def raise_if_failed(self) -> None:
        """Raise the report as an AssertionError if a law is broken.

        Raises:
            AssertionError: The report.
        """
        if self.failures:
            raise AssertionError(str(self))


class LossTest:
    """One law on one loss, to be called by a test; `str` is the name of the law."""

    def __init__(self, law: Judge, subject: Subject) -> None:
        """Bind a law to what is known of a loss."""
        self._law, self._subject = law, subject
        self.__name__ = _function(law).__name__

    def __str__(self) -> str:
        """The name of the law."""
        return self.__name__

    def __repr__(self) -> str:
        """The law and the loss."""
        return f"<{self.__name__} of {self._subject.name}>"

    def __call__(self) -> None:
        """Raise an AssertionError that says what is wrong, or unittest.SkipTest."""
        found = _found(self._law, self._subject)
        if found.outcome == "skipped":
            raise DoesNotApply(found.message)
        assert found.outcome == "passed", f"{found.states}\n{found.message}"


def check_loss(
    loss: Callable[..., Any],
    draw: Draw,
    *,
    oracle: Callable[..., Any] | None = None,
    laws: Sequence[str] | None = None,
) -> Report:
    """Run the laws that the losses of jaxloss keep on any loss.

    A law that breaks says in words what is wrong, where, and which input shows it. Laws of
    parameters that the loss does not have (`where`, `weights`, `reduction`, `axis`) are left out.

    Args:
        loss: Any function of arrays that returns losses: one of jaxloss, of optax, of your own.
            Options go by `functools.partial`.
        draw: The kind of each array argument, such as `(REAL, REAL)`: the ends of its domain, zeros
            and ties are tried too. Or a function of a NumPy generator and a shape, (examples,
            features), that returns ordinary arguments: then only such are tried.
        oracle: The formula of the loss, to which its digits are compared: of one element, in
            mpmath's numbers (lists of them for vectors), or of float64 arrays. It returns the loss
            or the terms whose sum it is. Without one the loss is compared to itself in float64,
            where a formula that is wrong in every precision is not noticed.
        laws: The names of the laws to run, all in `LAWS` if None.

    Returns:
        A `Report`, which is true if no law is broken.

    Raises:
        ValueError: If a law is none, or the loss cannot be called with what is drawn.

    Example:
        >>> from jaxloss.testing import REAL, check_loss
        >>> def squared(predictions, targets):
        ...     return (predictions - targets) ** 2
        >>> report = check_loss(squared, (REAL, REAL), laws=["accurate", "half_precision"])
        >>> print(report)
        squared: 1 law kept, 1 broken, 0 do not apply
        <BLANKLINE>
        broken: half_precision
          float16 and bfloat16 are computed in float32, with slopes in the dtype of their input.
          bfloat16 data give losses of bfloat16
        <BLANKLINE>
        kept:
          accurate
        >>> bool(check_loss(jaxloss.squared_error, (REAL, REAL), laws=["half_precision"]))
        True
    """
    subject = subject_of(loss, draw)
    findings = [_found(law, subject) for law in _asked(laws, oracle)]
    return Report(subject.name, tuple(findings))


def laws_for(
    loss: Callable[..., Any],
    draw: Draw,
    *,
    oracle: Callable[..., Any] | None = None,
    laws: Sequence[str] | None = None,
) -> list[LossTest]:
    """The laws on a loss as tests, one for each law.

    With pytest:

        @pytest.mark.parametrize("law", laws_for(my_loss, (REAL, REAL)), ids=str)
        def test_my_loss(law): law()

    Args:
        loss, draw, oracle, laws: As in `check_loss`.

    Returns:
        Functions without arguments, each of which raises an AssertionError if its law is broken and
        unittest.SkipTest, which pytest knows, if it does not apply. `str` gives the name.

    Raises:
        ValueError: If a law is none, or the loss cannot be called with what is drawn.

    Example:
        >>> from jaxloss.testing import REAL, laws_for
        >>> laws = laws_for(jaxloss.log_cosh, (REAL, REAL), laws=["accurate", "half_precision"])
        >>> [str(law) for law in laws]
        ['accurate', 'half_precision']
        >>> for law in laws:
        ...     law()
    """
    subject = subject_of(loss, draw)
    return [LossTest(law, subject) for law in _asked(laws, oracle)]


def _asked(names: Sequence[str] | None, oracle: Any) -> Iterator[Judge]:
    unknown = [name for name in names or () if name not in LAWS]
    if unknown:
        raise ValueError(f"laws must be among {', '.join(LAWS)}, got {', '.join(unknown)}")
    for name in LAWS if names is None else names:
        accurate = functools.partial(edges.accurate, oracle=oracle)
        yield accurate if LAWS[name] is edges.accurate else LAWS[name]


def _found(law: Judge, subject: Subject) -> Finding:
    """The outcome of a law; what the loss raises is a failure, not a crash."""
    function = _function(law)
    states = (inspect.getdoc(function) or "").split("\n")[0]
    say = functools.partial(Finding, function.__name__, states)
    try:
        law(subject)
    except DoesNotApply as reason:
        return say("skipped", str(reason))
    except AssertionError as error:
        return say("failed", _in_a_line(str(error)))
    # Anything that somebody else's loss may raise.
    except Exception as error:
        return say("failed", f"it raised {type(error).__name__}: {_in_a_line(str(error))}")
    return say("passed")


def _function(law: Judge) -> Any:
    return law.func if isinstance(law, functools.partial) else law


def _laws(count: int) -> str:
    return "1 law" if count == 1 else f"{count} laws"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 96, initial_indent="  ", subsequent_indent="    ")


def _in_a_line(text: str) -> str:
    lines = " ".join(text.split())
    return lines if len(lines) <= 700 else f"{lines[:697]}..."
