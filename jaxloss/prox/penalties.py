"""What penalties share: convex functions of a tree of parameters, with their proximal operators.

A kind of penalty is five functions of one array. `Penalty` applies them to the arrays of a tree.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._contract import inputs
from .._contract.inputs import Axis
from .._contract.prepared import non_negative
from .curves import infinite_outside, nothing_of

Tree = TypeVar("Tree")
Function = Callable[..., jax.Array]


class Kind(NamedTuple):
    """What a penalty is made of: functions of an array, or of vectors along the last axis.

    They take the array x or the slopes y, the step where there is one, then the hyperparameters,
    which have the shape of the array, or a last axis of size 1 beside vectors.

    Attributes:
        name: That of the function that makes the penalty.
        domains: Where the hyperparameters may lie, by name.
        value: Of x: terms whose sum is the penalty.
        prox: Of x and step.
        envelope: Of x and step: terms whose sum is the envelope.
        conjugate: Of y: terms whose sum is the conjugate.
        conjugate_prox: Of y and step.
        vectors: Whether it takes vectors.
        known: Whether hyperparameters fit each other, if they have to.
    """

    name: str
    domains: Mapping[str, Callable[[jax.Array], jax.Array]]
    value: Function
    prox: Function
    envelope: Function
    conjugate: Function
    conjugate_prox: Function
    vectors: bool = False
    known: Function | None = None


# By name, so that a penalty can be pickled.
KINDS: dict[str, Kind] = {}


def registered(kind: Kind) -> str:
    """Add a kind; its name."""
    KINDS[kind.name] = kind
    return kind.name


# What a parameter that a mask leaves out has.
_FREE = Kind(
    name="free",
    domains={},
    value=jnp.zeros_like,
    prox=lambda x, step: x,
    envelope=lambda x, step: jnp.zeros_like(x),
    conjugate=lambda y: infinite_outside(nothing_of(y), y == 0),
    conjugate_prox=lambda y, step: jnp.zeros_like(y),
)
registered(_FREE)


class Mask(NamedTuple):
    """Which arrays of a tree count: True and False in its upper part, as structure and leaves."""

    structure: Any
    leaves: tuple[bool, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Penalty:
    """A penalty on parameters, with its proximal operator, envelope and conjugate.

    The functions of this module make one: `l1(0.1)`. It takes any pytree of floating-point arrays.
    Values are sums over all of them, points are trees again. It is itself a pytree of its
    hyperparameters, and differentiable in them. With f the penalty:

        prox(x)      the p that minimises f(p) + |p - x|^2 / (2 step)
        envelope(x)  that minimum
        conjugate(y) the largest value of <y, p> - f(p)

    The gradient of the envelope is (x - prox(x)) / step. Of infinite parameters all are limits,
    and NaN where there is none: where a vector has several infinite entries, its direction is
    unknown.

    A hyperparameter is a number, or a tree of numbers or arrays that is the parameters' tree or the
    upper part of it: with `l1({"kernel": 0.1, "bias": 0.0})` biases cost nothing. So is a step.
    Half precision is computed in float32; points have the dtype of the parameters.

    Attributes:
        name: That of the function that makes it.
        hyper: Its hyperparameters by name.
        axis: The axes that make up a vector, for a penalty of vectors.
        masks: Which arrays it counts; see `masked`.

    Reference:
        Moreau, "Proximité et dualité dans un espace hilbertien", 1965,
        https://doi.org/10.24033/bsmf.1625; Parikh and Boyd, "Proximal algorithms", 2014,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> from jaxloss import prox
        >>> params = {"kernel": jnp.array([0.5, -0.1]), "bias": jnp.array([2.0])}
        >>> prox.l1(0.2).prox(params, step=1.0)
        {'bias': Array([1.8], dtype=float32), 'kernel': Array([0.3, 0. ], dtype=float32)}
    """

    name: str = field(metadata={"static": True})
    hyper: dict[str, Any]
    axis: Axis = field(default=None, metadata={"static": True})
    masks: tuple[Mask | Callable[[Any], Any], ...] = field(default=(), metadata={"static": True})

    def __call__(self, x: PyTree) -> jax.Array:
        """The penalty itself.

        Args:
            x: Parameters.

        Returns:
            One number.
        """
        return self._sum("value", "x", x)

    def prox(self, x: Tree, step: Any = 1.0) -> Tree:
        """The proximal point.

            argmin over p of  f(p) + |p - x|^2 / (2 step)

        Args:
            x: Parameters.
            step: The learning rate of a proximal gradient step, at least 0 and NaN below.

        Returns:
            A tree like that of the parameters.
        """
        return self._map("prox", "x", x, step)

    def envelope(self, x: PyTree, step: Any = 1.0) -> jax.Array:
        """The Moreau envelope: the penalty with its corners rounded off.

            min over p of  f(p) + |p - x|^2 / (2 step)

        Args:
            x: Parameters.
            step: At least 0, NaN below. With 0 it is the penalty.

        Returns:
            One number.
        """
        return self._sum("envelope", "x", x, step=step)

    def conjugate(self, y: PyTree) -> jax.Array:
        """The convex conjugate, the supremum of <y, p> - f(p) over all p.

        Args:
            y: Slopes: a tree like that of the parameters.

        Returns:
            One number; inf, with a derivative of NaN, where the supremum is.
        """
        return self._sum("conjugate", "y", y)

    def conjugate_prox(self, y: Tree, step: Any = 1.0) -> Tree:
        """The proximal point under the conjugate, of which primal-dual methods are made.

            argmin over z of  f*(z) + |z - y|^2 / (2 step)

        By Moreau's decomposition it is y - step prox(y / step) with a step of 1 / step.

        Args:
            y: Slopes: a tree like that of the parameters.
            step: At least 0, NaN below.

        Returns:
            A tree like that of the slopes.
        """
        return self._map("conjugate_prox", "y", y, step)

    def __repr__(self) -> str:
        """The call that makes it."""
        settings = self.hyper | ({"axis": self.axis} if KINDS[self.name].vectors else {})
        text = f"{self.name}({', '.join(f'{k}={v}' for k, v in settings.items())})"
        for mask in self.masks:
            shown = jax.tree.unflatten(*mask) if isinstance(mask, Mask) else inputs.shown(mask)
            text = f"masked({text}, {shown})"
        return text

    def _map(self, method: str, name: str, tree: Any, step: Any) -> Any:
        found = [
            self._of_array(method, place, x, numbers, counts).astype(x.dtype)
            for place, x, numbers, counts in self._arrays(name, tree, step=step)
        ]
        return jax.tree.unflatten(jax.tree.structure(tree), found)

    def _sum(self, method: str, name: str, tree: Any, **step: Any) -> jax.Array:
        each = self._arrays(name, tree, **step)
        totals = [jnp.sum(self._of_array(method, *given)) for given in each]
        dtype = inputs.computing_dtype(totals)
        return sum((x.astype(dtype) for x in totals), jnp.zeros((), dtype))

    def _arrays(self, name: str, tree: Any, **step: Any) -> list[tuple[str, Any, Any, bool]]:
        """For each array of the tree its place, itself, its numbers, and whether it counts."""
        leaves = jax.tree.leaves_with_path(tree)
        places = [name + jax.tree_util.keystr(path) for path, _ in leaves]
        numbers = {
            key: _spread(key, value, name, tree) for key, value in (step | self.hyper).items()
        }
        masks = [_spread("mask", _read(mask, tree), name, tree) for mask in self.masks]
        return [
            (
                places[i],
                inputs.floating(places[i], leaf),
                {key: each[i] for key, each in numbers.items()},
                all(mask[i] for mask in masks),
            )
            for i, (_, leaf) in enumerate(leaves)
        ]

    def _of_array(
        self, method: str, place: str, x: jax.Array, numbers: dict[str, Any], counts: bool
    ) -> jax.Array:
        if not counts:
            free = {"step": numbers["step"]} if "step" in numbers else {}
            return _run(method, "free", (), x, _numbers(place, x, x.shape, free))
        axes = ()
        if KINDS[self.name].vectors and x.ndim:  # a number is a vector of one entry
            axes = inputs.consumed(self.axis, place, x)
        shape = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
        return _run(method, self.name, axes, x, _numbers(place, x, shape, numbers))


def _numbers(
    place: str, x: jax.Array, shape: tuple[int, ...], given: dict[str, Any]
) -> dict[str, jax.Array]:
    """Numbers, or arrays that broadcast to a shape."""
    found = {key: inputs.real(key, value) for key, value in given.items()}
    for key, value in found.items():
        try:
            fits = jnp.broadcast_shapes(value.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            got = inputs.described(**{place: x, key: value})
            raise ValueError(f"{key} must broadcast to {list(shape)} beside {place}, got {got}")
    return found


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    method: str, name: str, axes: tuple[int, ...], x: jax.Array, numbers: dict[str, Any]
) -> jax.Array:
    """What a kind of penalty makes of one array; NaN where a number is out of its domain."""
    kind = KINDS[name]
    dtype = inputs.computing_dtype([x])
    order = [*(i for i in range(x.ndim) if i not in axes), *axes]

    def ready(z: jax.Array, single: bool) -> jax.Array:
        """In the computing dtype; vectors along one last axis."""
        shape = tuple(1 if single and i in axes else size for i, size in enumerate(x.shape))
        z = jnp.broadcast_to(z.astype(dtype), shape)
        if not kind.vectors:
            return z
        z = z.transpose(order)
        return z.reshape(*z.shape[: x.ndim - len(axes)], -1)

    given = {key: ready(value, True) for key, value in numbers.items()}
    hyper = [given[key] for key in kind.domains]
    step = [given["step"]] if "step" in given else []
    found = getattr(kind, method)(ready(x, False), *step, *hyper)
    known = [domain(given[key]) for key, domain in kind.domains.items()]
    known += [kind.known(*hyper)] if kind.known else []
    for domain in (*known, *map(non_negative, step)):
        found = inputs.nan_outside(found, domain)
    if kind.vectors and found.size == x.size:
        moved = tuple(x.shape[i] for i in order)
        found = found.reshape(moved).transpose([order.index(i) for i in range(x.ndim)])
    return found


def _spread(name: str, value: Any, other: str, tree: Any) -> list[Any]:
    """A number for each array of a tree, from one number or from the upper part of such a tree."""
    structure = jax.tree.structure(tree)
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(value)):
        return [value] * structure.num_leaves
    try:
        spread = jax.tree.map(lambda one, part: jax.tree.map(lambda _: one, part), value, tree)
    except (TypeError, ValueError):
        got = f"{jax.tree.structure(value)} for {structure}"
        raise ValueError(
            f"{name} must be one for all, or a tree of which {other} has the upper part, got {got}"
        ) from None
    return jax.tree.leaves(spread)


def _read(mask: Mask | Callable[[Any], Any], tree: Any) -> Any:
    """A mask as a tree of True and False."""
    return jax.tree.unflatten(*_frozen(mask(tree)) if callable(mask) else mask)


def _frozen(mask: Any) -> Mask:
    leaves, structure = jax.tree.flatten(mask)
    for leaf in leaves:
        if not isinstance(leaf, bool | np.bool_):
            raise TypeError(f"mask must be a tree of True and False, got {inputs.shown(leaf)}")
    return Mask(structure, tuple(map(bool, leaves)))


def penalty(name: str, axis: Axis = None, **hyper: Any) -> Penalty:
    """A penalty, whose hyperparameters are numbers or trees of them."""
    for key, value in hyper.items():
        for leaf in jax.tree.leaves(value, is_leaf=lambda x: x is None):
            inputs.real(key, leaf)
    return Penalty(name, hyper, tuple(axis) if isinstance(axis, list) else axis)


def masked(penalty: Penalty, mask: Any) -> Penalty:
    """A penalty on some of the parameters; the others are free.

    As `optax.masked` does. What is left out costs nothing and stays where it is.

    Args:
        penalty: The penalty.
        mask: A tree of True and False that is the parameters' tree or the upper part of it, or a
            function that makes such a tree of the parameters.

    Returns:
        The penalty, a `Penalty`.

    Raises:
        TypeError: If `penalty` is none, or the mask holds something else.

    Example:
        >>> from jaxloss import prox
        >>> params = {"kernel": jnp.array([0.5, -0.1]), "bias": jnp.array([2.0])}
        >>> penalty = prox.masked(prox.l1(0.2), {"kernel": True, "bias": False})
        >>> penalty.prox(params)
        {'bias': Array([2.], dtype=float32), 'kernel': Array([0.3, 0. ], dtype=float32)}
    """
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty must be a Penalty, got {inputs.shown(penalty)}")
    chosen = mask if callable(mask) else _frozen(mask)
    return dataclasses.replace(penalty, masks=(*penalty.masks, chosen))
