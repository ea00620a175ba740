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


def value(loss_name: str, args, options):
    """The exact loss and the size of its largest term."""
    args, options = _exact(args, options)
    with mp.workprec(500 + 6 * _spread(args, options)):
        return _sum_and_largest(LOSSES[loss_name](*args, **options))


def derivative(loss_name: str, args, options, wrt):
    """The exact derivative of a loss off its kinks, and the size of the largest term's derivative.

    Args:
        loss_name: the name of a loss of a module here.
        args: predictions, targets and side data.
        options: hyperparameters by name.
        wrt: an index into `args`, a pair (index, (i, ...)) where that argument is a list or lists
            in a list, or the name of a number in `options`.

    At an end of the domain the derivative is that from inside, which may be infinite: where a loss
    is NaN outside, and at 0 for side data and means given as they are (log_input=False). In a
    hyperparameter or side datum that is infinite the derivative is its limit, 0.
    """
    args, options = _exact(args, options)
    formula = LOSSES[loss_name]
    rules = slopes_of(formula)
    index, component = wrt if isinstance(wrt, tuple) else (wrt, ())
    if index in rules.constant:
        return mp.zero, mp.zero
    at = options[wrt] if isinstance(wrt, str) else args[index]
    for i in component:
        at = at[i]
    if mp.isinf(at):
        if wrt in (0, 1) or component:
            raise ValueError(f"no derivative of {loss_name} in the infinite argument {wrt}")
        return mp.zero, mp.zero
    if at in rules.undefined.get(wrt, ()) if isinstance(wrt, str) else False:
        raise ValueError(f"{loss_name} has no derivative at {wrt} = {at}")
    limit = rules.limit(args, options, wrt) if rules.limit else None
    if limit is not None:
        return limit, limit

    spread = _spread(args, options)
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
                moved[index] = _replaced(moved[index], component, x)
            return formula(*moved, **named)

        step = mp.ldexp(1, -250 - 2 * spread)
        bounded = [0] if options.get("log_input") is False else []
        on_the_end = at == 0 and index in [*bounded, *range(2, len(args))]
        low, high = at - (0 if on_the_end else step), at + step
        below, above = terms_at(low), terms_at(high)
        for side, inward in ((below, step), (above, -step)):
            if any(mp.isnan(term) for term in side):
                return _sum_and_largest(_slopes_inward(terms_at, at, inward))
        return _sum_and_largest(_quotients(below, above, high - low))


def hessian(loss_name: str, args, options, places, columns):
    """The exact second derivatives of a loss, and the size of the largest term of each.

    Args:
        loss_name: the name of a loss of a module here.
        args: predictions, targets and side data.
        options: hyperparameters by name.
        places: what to differentiate in, each as `derivative` takes it.
        columns: the numbers of those places to differentiate in again.

    Returns:
        For each column a list of pairs, one for each place; None where no second derivative
        exists: at a kink of the slope, where it is infinite, and where the formula itself changes.
        At an end of the domain it is that from inside.
    """
    args, options = _exact(args, options)
    formula = LOSSES[loss_name]
    rules = slopes_of(formula)
    spread = _spread(args, options)
    with mp.workprec(1000 + 10 * spread):
        if rules.held:
            options = rules.held(*args, **options) | options
        step = mp.ldexp(1, -250 - 2 * spread)
        found: dict[Any, Any] = {}

        def terms_at(moves):
            """The terms at a point some of whose numbers moved."""
            key = tuple(sorted(moves.items()))
            if key not in found:
                moved, named = list(args), dict(options)
                for place, change in moves.items():
                    wrt = places[place]
                    if isinstance(wrt, str):
                        named[wrt] = named[wrt] + change
                        continue
                    index, component = wrt if isinstance(wrt, tuple) else (wrt, ())
                    at = moved[index]
                    for i in component:
                        at = at[i]
                    moved[index] = _replaced(moved[index], component, at + change)
                found[key] = formula(*moved, **named)
            return found[key]

        def undefined(terms):
            return any(mp.isnan(term) for term in terms)

        def at_of(wrt):
            if isinstance(wrt, str):
                return options[wrt]
            index, component = wrt if isinstance(wrt, tuple) else (wrt, ())
            at = args[index]
            for i in component:
                at = at[i]
            return at

        def kind(place):
            """Whether the slope in a place is 0, unknown, or to be found with two steps."""
            wrt = places[place]
            at, index = at_of(wrt), wrt[0] if isinstance(wrt, tuple) else wrt
            if index in rules.constant:
                return "constant"
            if mp.isinf(at):
                return "unknown" if isinstance(wrt, tuple) or wrt in (0, 1) else "constant"
            if isinstance(wrt, str) and at in rules.undefined.get(wrt, ()):
                return "unknown"
            if rules.limit and rules.limit(args, options, wrt) is not None:
                return "unknown"
            if rules.at and rules.at(args, options, wrt, at)[1] != at:
                return "unknown"
            bounded = [0] if options.get("log_input") is False else []
            on_the_end = at == 0 and index in [*bounded, *range(2, len(args))]
            back = mp.ldexp(step, -50)
            if on_the_end or undefined(terms_at({place: -step})):
                return (step, back)
            if undefined(terms_at({place: step})):
                return (-step, -back)
            return (step, -back)

        kinds = [kind(place) for place in range(len(places))]

        def second(i, j):
            """The terms of the second derivative in two places, for the first and second step."""
            for a, b in zip(kinds[i], kinds[j], strict=True):
                if i == j:
                    corners = [terms_at(x) for x in ({i: 2 * a}, {i: a}, {i: a}, {})]
                else:
                    corners = [terms_at(x) for x in ({i: a, j: b}, {i: a}, {j: b}, {})]
                yield [(w - x - y + z) / (a * b) for w, x, y, z in zip(*corners, strict=True)]

        def alike(first, again):
            noise = mp.ldexp(1, -100)
            return all(
                mp.isfinite(x)
                and mp.isfinite(y)
                and abs(x - y) <= noise * max(abs(x), abs(y), mp.ldexp(1, -150 - 2 * spread))
                for x, y in zip(first, again, strict=True)
            )

        def entry(i, j):
            if "unknown" in (kinds[i], kinds[j]):
                return None
            if "constant" in (kinds[i], kinds[j]):
                return mp.zero, mp.zero
            first, again = second(i, j)
            return _sum_and_largest(first) if alike(first, again) else None

        smooth = [
            not isinstance(x, tuple) or entry(i, i) is not None for i, x in enumerate(kinds)
        ]
        return [
            [entry(i, j) if smooth[i] and smooth[j] else None for i in range(len(places))]
            for j in columns
        ]


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


def _replaced(x, component, entry):
    """A number, or nested lists of them, with another entry in one place."""
    if not component:
        return entry
    first, *rest = component
    return [_replaced(a, rest, entry) if i == first else a for i, a in enumerate(x)]


def _exact(args, options) -> tuple[list[Any], dict[str, Any]]:
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


def _spread(args, options):
    """How many binary orders of magnitude lie between the numbers of a call, 1 among them."""
    numbers = [0]
    for x in [*args, *options.values()]:
        for entry in flat(x):
            if isinstance(entry, mp.mpf) and entry and mp.isfinite(entry):
                numbers.append(mp.mag(entry))
    return max(numbers) - min(numbers)


def _sum_and_largest(terms):
    return mp.fsum(terms), max((abs(term) for term in terms), default=mp.zero)
