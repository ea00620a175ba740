"""Exact values and derivatives of the losses in mpmath, to measure the compiled ones against.

Each loss in `oracles.py` of a family is its written formula and carries the name of the loss it
judges; `slopes.py` says what a formula may add of its derivatives. It
takes mpf numbers, predictions and targets first, then side data (variance, scale, df, dispersion)
by position and hyperparameters by keyword, and returns the terms whose sum is the loss: several
where the formula adds terms of either sign, so that an error can be measured against the largest
of them, and one where it has to be measured against the result itself. A loss that consumes axes
takes lists, nested for several axes, and one example; the number of a class is an int. Formulas
hold inside the domain of a loss and, where a limit exists, on its boundary.

`value` and `derivative` evaluate them with as many bits as the sizes of the arguments ask for.
"""

import importlib
import inspect
from typing import Any

from mpmath import mp

from tests.laws.arithmetic import flat
from tests.laws.case import FAMILIES
from tests.laws.slopes import slopes_of

MODULES = {family: importlib.import_module(f"tests.{family}.oracles") for family in FAMILIES}
LOSSES = {
    name: formula
    for module in MODULES.values()
    for name, formula in vars(module).items()
    if inspect.isfunction(formula)
    and formula.__module__ == module.__name__
    and not name.startswith("_")
}


# What stands for infinity in a limit is 2 to this power: there a slope that falls as the root of
# its argument is below 2^-200 too.
_FAR = 600


def value(loss_name: str, args, options):
    """The exact loss and the size of its largest term."""
    args, options = exactly(args, options)
    with mp.workprec(500 + 6 * spread_of(args, options)):
        return sum_and_largest(LOSSES[loss_name](*args, **options))


def derivative(loss_name: str, args, options, wrt):
    """The exact derivative of a loss off its kinks, and the size of the largest term's derivative.

    Args:
        loss_name: the name of a loss of a module here.
        args: predictions, targets and side data.
        options: hyperparameters by name.
        wrt: an index into `args`, a pair (index, (i, ...)) where that argument is a list or lists
            in a list, or the name of a number in `options`.

    At an end of the domain the derivative is that from inside, which may be infinite: where a loss
    is NaN outside, and at 0 for side data and means given as they are (log_input=False). In an
    infinite argument it is its limit, and in an infinite hyperparameter 0.
    """
    args, options = exactly(args, options)
    formula = LOSSES[loss_name]
    rules = slopes_of(formula)
    index, component = wrt if isinstance(wrt, tuple) else (wrt, ())
    if index in rules.constant:
        return mp.zero, mp.zero
    limit = rules.limit(args, options, wrt) if rules.limit else None
    if limit is not None:
        return limit, limit
    at = entry_of(args, options, wrt)
    if mp.isinf(at):
        if isinstance(wrt, str):
            if any(mp.isinf(x) for x in flat(args)):
                raise ValueError(f"no limit of {loss_name} in {wrt} at an infinite argument")
            return mp.zero, mp.zero
        far = list(args)
        far[index] = replaced(far[index], component, mp.ldexp(mp.sign(at), _FAR))
        found = derivative(loss_name, far, options, wrt)
        return tuple(mp.zero if abs(x) < mp.ldexp(1, -200) else x for x in found)
    if at in rules.undefined.get(wrt, ()) if isinstance(wrt, str) else False:
        raise ValueError(f"{loss_name} has no derivative at {wrt} = {at}")

    spread = spread_of(args, options)
    with mp.workprec(1000 + 10 * spread):
        if rules.held:
            options = rules.held(*args, **options) | options
        if rules.at:
            options, at = rules.at(args, options, wrt, at)

        def terms_at(x):
            moved, named = list(args), dict(options)
            if isinstance(wrt, str):
                named[wrt] = x
            else:
                moved[index] = replaced(moved[index], component, x)
            return formula(*moved, **named)

        step = mp.ldexp(1, -250 - 2 * spread)
        low, high = at - (0 if on_the_end(at, index, args, options) else step), at + step
        below, above = terms_at(low), terms_at(high)
        for side, inward in ((below, step), (above, -step)):
            if any(mp.isnan(term) for term in side):
                return sum_and_largest(_slopes_inward(terms_at, at, inward))
        return sum_and_largest(_quotients(below, above, high - low))


def entry_of(args, options, wrt):
    """The number that `wrt` names."""
    if isinstance(wrt, str):
        return options[wrt]
    index, component = wrt if isinstance(wrt, tuple) else (wrt, ())
    at = args[index]
    for i in component:
        at = at[i]
    return at


def on_the_end(at, index, args, options):
    """Whether a number lies on an end of its domain that the formula does not know."""
    bounded = [0] if options.get("log_input") is False else []
    return at == 0 and index in [*bounded, *range(2, len(args))]


def _quotients(below, above, distance):
    return [(b - a) / distance for a, b in zip(below, above, strict=True)]


def _slopes_inward(terms_at, at, step):
    """Slopes at an end of the domain, infinite where a smaller step shows a steeper one."""
    start, nearer = terms_at(at), mp.ldexp(step, -50)
    near, far = (_quotients(start, terms_at(at + x), x) for x in (nearer, step))
    # What is left of the rounding of a slope of 0 lies far below 2^-200.
    return [
        mp.sign(a) * mp.inf if abs(a) > mp.ldexp(1, -200) and abs(a - b) > abs(b) / 2**60 else a
        for a, b in zip(near, far, strict=True)
    ]


def replaced(x, component, entry):
    """A number, or nested lists of them, with another entry in one place."""
    if not component:
        return entry
    first, *rest = component
    return [replaced(a, rest, entry) if i == first else a for i, a in enumerate(x)]


def exactly(args, options) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as mpf numbers, without rounding; flags as they are."""

    def convert(x):
        if x is None or isinstance(x, bool | str | mp.mpf):
            return x
        if isinstance(x, int):
            return x
        if getattr(getattr(x, "dtype", None), "kind", "") == "i":
            return x.tolist()
        if isinstance(x, list | tuple) or getattr(x, "ndim", 0):
            return [convert(entry) for entry in x]
        return mp.mpf(float(x))

    return [convert(x) for x in args], {name: convert(x) for name, x in options.items()}


def spread_of(args, options):
    """How many binary orders of magnitude lie between the numbers of a call, 1 among them."""
    numbers = [0]
    for x in [*args, *options.values()]:
        for entry in flat(x):
            if isinstance(entry, mp.mpf) and entry and mp.isfinite(entry):
                numbers.append(mp.mag(entry))
    return max(numbers) - min(numbers)


def sum_and_largest(terms):
    return mp.fsum(terms), max((abs(term) for term in terms), default=mp.zero)
