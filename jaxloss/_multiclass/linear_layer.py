"""Hidden vectors and the linear layer that makes logits of them: how losses of these are prepared.

The logits of all tokens are never held. On a mesh each device has some tokens and some classes:
inside `shard_map` the user says so, elsewhere a `shard_map` of ours goes around what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from .._contract import inputs
from .._contract.inputs import ClassWeights
from .._contract.prepared import Hyper, Hypers, Prepared
from .._contract.reduce import Request
from .._numerics.devices import summed
from .._numerics.sharding import placed, sharded_like
from .._numerics.tiles import Columns, Rows
from .labels import check_numbers
from .linear_layout import Layout

Hidden = Float[ArrayLike, "*tokens width"] | Sequence[Any]
Kernel = Float[ArrayLike, "rows columns"] | Sequence[Any]
ClassOf = Int[ArrayLike, "*tokens"] | Sequence[Any]
Bias = Float[ArrayLike, "classes"] | Sequence[float] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens(Prepared):
    """The arguments of a loss of tokens, ready for arithmetic.

    Attributes:
        hidden: `[..., D]`; 0 in excluded tokens.
        number: The class of each token, 0 if it is none, in the shape of the loss.
        columns: The kernel, its bias, the class weights.
        layout: The settings.
    """

    hidden: jax.Array
    number: jax.Array
    columns: Columns
    layout: Layout

    def on_devices(
        self,
        function: Callable[..., Any],
        *fields: Any,
        beside: tuple[Tokens, ...] = (),
        sums: bool = False,
    ) -> Any:
        """A function of the tokens and the classes of a device, of all of them.

        Args:
            function: Takes the mesh axes of the classes, `Rows` and `Columns` of this layer and of
                those beside it, and the fields of these tokens, `[N]`. Returns a tree of arrays
                `[N]`, or of numbers.
            *fields: Numbers of each token, in the shape of the loss, or None.
            beside: Other layers of the same tokens and classes.
            sums: Whether it returns sums over tokens, which are then added over devices.
        """
        of_tokens, of_classes, mesh = self._placement()
        layers = self, *beside

        def local(states: Any, number: Any, columns: Any, *fields: Any) -> Any:
            shape = number.shape
            number, *flat = jax.tree.map(lambda x: x.reshape(-1), (number, *fields))
            rows = [Rows(x.reshape(-1, x.shape[-1]), number) for x in states]
            heads = [x for head in zip(rows, columns, strict=True) for x in head]
            found = function(of_classes or self.layout.axis_name, *heads, *flat)
            if not sums:
                return jax.tree.map(lambda x: x.reshape(shape), found)
            return summed(found, _names(of_tokens))

        states, matrices = [x.hidden for x in layers], [x.columns for x in layers]
        given: Any = (states, self.number, matrices, *fields)
        if mesh is None:
            return local(*given)
        by_token, by_class = PartitionSpec(*of_tokens), PartitionSpec(of_classes)
        order = (of_classes, None) if self.layout.transposed else (None, of_classes)
        specs: Any = Columns  # Of `PartitionSpec`s.
        wanted = (
            [PartitionSpec(*of_tokens, None) for _ in states],
            by_token,
            [
                specs(PartitionSpec(*order), *(None if y is None else by_class for y in x[1:]))
                for x in matrices
            ],
            *(None if x is None else by_token for x in fields),
        )
        if AxisType.Explicit in mesh.axis_types:
            given = jax.tree.map(lambda x, spec: placed(x, mesh, spec), given, wanted)
        out = PartitionSpec() if sums else by_token
        return jax.shard_map(local, mesh=mesh, in_specs=wanted, out_specs=out)(*given)

    def _placement(self) -> tuple[tuple[Any, ...], Any, Any]:
        """The mesh axes of the dimensions of the tokens, those of the classes, and the mesh.

        No mesh where the devices are the user's affair, or the compiler's.
        """
        layout, rank = self.layout, len(self.shape)
        if layout.sharding is not None:
            return self._asked(layout.sharding)
        kind = jax.typeof(self.hidden).sharding
        names = tuple(kind.spec[:rank])
        classes = jax.typeof(self.columns.kernel).sharding.spec[layout.classes]
        if not _names((*names, classes)) or layout.axis_name is not None:
            return (None,) * rank, None, None
        # Classes that lie along an axis of the tokens, as a kernel's that is stored in parts, are
        # gathered.
        if set(_names((classes,))) & set(_names(names)):
            classes = None
        return names, classes, kind.mesh

    def _asked(self, sharding: PartitionSpec | NamedSharding) -> tuple[tuple[Any, ...], Any, Any]:
        """As `_placement`, of what the user says."""
        mesh: Any = jax.sharding.get_abstract_mesh()
        spec: Any = sharding
        if isinstance(sharding, NamedSharding):
            mesh, spec = sharding.mesh, sharding.spec
        if mesh.empty:
            raise ValueError(
                f"logits_sharding needs a mesh, got {sharding} without one: give a NamedSharding, "
                "or call within jax.set_mesh(mesh)"
            )
        rank = len(self.shape) + 1
        if len(spec) > rank:
            raise ValueError(
                f"logits_sharding must have an entry for each of the {rank} dimensions of the "
                f"logits at most, got {spec}"
            )
        *names, classes = (*spec, *(None for _ in range(rank - len(spec))))
        width = self.columns.kernel.shape[self.layout.classes]
        for entry, size in zip((*names, classes), (*self.shape, width), strict=True):
            _check_divides(entry, size, mesh, f"logits_sharding {spec}")
        return tuple(names), classes, mesh


def _names(entries: Any) -> tuple[Any, ...]:
    """The mesh axes of entries of a `PartitionSpec`."""
    return tuple(
        name
        for entry in entries
        if entry is not None
        for name in (entry if isinstance(entry, tuple) else (entry,))
    )


def _check_divides(entry: Any, size: int, mesh: Any, what: str) -> None:
    devices = 1
    for name in _names((entry,)):
        if name not in mesh.shape:
            raise ValueError(
                f"{what} names {name!r}, which is no axis of the mesh {mesh.axis_names}"
            )
        devices *= mesh.shape[name]
    if size % devices:
        raise ValueError(
            f"{what} must divide evenly: {size} over the {devices} devices of {entry!r}"
        )


def tokens(
    hidden: Any,
    kernel: Any,
    labels: Any,
    request: Request,
    layout: Layout,
    *,
    bias: Any = None,
    class_weights: ClassWeights = None,
    hyper: Hypers | None = None,
    owner: str = "",
) -> Tokens:
    """Hidden vectors, their linear layer, and the class of each token.

    Args:
        hidden: `[..., D]`.
        kernel: `[D, V]`, or `[V, D]`.
        labels: Class numbers, `[...]`.
        request: The user's mask, weights and reduction.
        layout: The settings.
        bias: `[V]`.
        class_weights: `[V]`.
        hyper: Hyperparameters.
        owner: What stands before the names of the first two arguments.
    """
    _check_block(layout.block_size)
    states, matrix = (
        inputs.floating(f"{owner}{name}", x) for name, x in (("hidden", hidden), ("kernel", kernel))
    )
    numbers = inputs.real("labels", labels, numbers=True)
    _check_kernel(owner, states, matrix, layout.transposed)
    shape, classes = states.shape[:-1], matrix.shape[layout.classes]
    got = inputs.described(hidden=states, labels=numbers)
    check_numbers("labels", numbers, shape, got, inputs.spare_axis("labels", numbers.shape, shape))
    dtype = inputs.computing_dtype([states, matrix])
    if states.dtype != matrix.dtype:
        states, matrix = states.astype(dtype), matrix.astype(dtype)

    def by_class(name: str, value: Any, what: str) -> jax.Array | None:
        if value is None:
            return None
        array = inputs.real(name, value)
        message = (
            f"{name} must have shape {[classes]}, {what} for each class, "
            f"got {inputs.described(**{name: array})}"
        )
        inputs.check_shape(array, (classes,), message)
        return array.astype(dtype)

    columns = Columns(
        matrix,
        by_class("bias", bias, "a number"),
        by_class("class_weights", class_weights, "a weight"),
    )
    selected = None
    if request.where is not None:
        selected = inputs.mask(request.where, shape, "the loss", states, (-1,))
        states = jnp.where(selected[..., None], states, 0)
    count = classes * _devices_along(layout.axis_name)
    if count < 2:
        got = inputs.described(kernel=matrix)
        raise ValueError(f"there must be two classes or more, got {got}")
    index, known = inputs.class_index(sharded_like(numbers, states, (-1,)), count)
    given = Tokens(
        request=request,
        shape=shape,
        dtype=dtype,
        where=selected,
        known=known if selected is None else known | ~selected,
        hidden=states,
        number=index,
        columns=columns,
        layout=layout,
    )
    return given.with_hyper(hyper or {}, states, (-1,))


def unlabelled(
    owner: str, hidden: Any, kernel: Any, request: Request, layout: Layout, bias: Any, scale: Hyper
) -> Tokens:
    """Hidden vectors and their linear layer, with a temperature; arguments as in `tokens`."""
    states = inputs.floating(f"{owner}hidden", hidden)
    none = jnp.zeros(states.shape[:-1], jnp.int32)
    hyper = {"temperature": scale}
    return tokens(states, kernel, none, request, layout, bias=bias, hyper=hyper, owner=owner)


def check_same_classes(student: Tokens, teacher: Tokens) -> None:
    """Refuse a student and a teacher of other tokens or classes."""
    if student.shape != teacher.shape:
        got = inputs.described(student_hidden=student.hidden, teacher_hidden=teacher.hidden)
        raise ValueError(f"student_hidden and teacher_hidden must have the same tokens, got {got}")
    axis = student.layout.classes
    one, other = (x.columns.kernel for x in (student, teacher))
    if one.shape[axis] != other.shape[axis]:
        got = inputs.described(student_kernel=one, teacher_kernel=other)
        raise ValueError(f"student_kernel and teacher_kernel must have the same classes, got {got}")


def _check_block(size: Any) -> None:
    if size is None:
        return
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"block_size must be a Python integer or None, got {inputs.shown(size)}")
    if size < 1:
        raise ValueError(f"block_size must be positive, got {size}")


def _check_kernel(owner: str, hidden: jax.Array, kernel: jax.Array, transposed: bool) -> None:
    got = inputs.described(**{f"{owner}hidden": hidden, f"{owner}kernel": kernel})
    if not hidden.ndim:
        raise ValueError(f"{owner}hidden must have at least one axis, got {got}")
    width = hidden.shape[-1]
    wanted = f"[classes, {width}]" if transposed else f"[{width}, classes]"
    if kernel.ndim == 2 and kernel.shape[1 if transposed else 0] == width:
        return
    hint = ""
    if kernel.ndim == 2 and kernel.shape[0 if transposed else 1] == width:
        hint = f"; for one of the other orientation: transposed={not transposed}"
    raise ValueError(f"{owner}kernel must be of shape {wanted}, got {got}{hint}")


def _devices_along(axis_name: Hashable) -> int:
    if axis_name is None:
        return 1
    try:
        return jax.lax.axis_size(axis_name)
    except (NameError, KeyError):
        raise ValueError(
            f"class_axis_name names {axis_name!r}, which is no mesh axis of a surrounding shard_map"
        ) from None


def of_class(values: jax.Array | None, number: jax.Array, axis: Hashable) -> jax.Array | None:
    """That of `values`, `[V]`, of the class of each token, whichever device has it."""
    if values is None:
        return None
    if axis is None:
        return values[number]
    axes: Any = axis
    size = values.shape[0]
    local = number - jax.lax.axis_index(axes) * size
    here = (local >= 0) & (local < size)
    return jax.lax.psum(jnp.where(here, values[jnp.where(here, local, 0)], 0), axes)
