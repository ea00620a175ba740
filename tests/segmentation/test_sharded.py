"""Images on several devices, where a loss counts the labels of the whole batch."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from jaxloss.testing.subject import assert_close

IMAGES = 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(IMAGES, 5, 3)).astype(np.float32)
# The last class is in the first image alone: each image by itself weighs the others.
LABELS = RNG.integers(0, 2, (IMAGES, 5)).astype(np.int32)
LABELS[0, 0] = 2
WHERE = np.arange(IMAGES) != 2
EACH = PartitionSpec("images")


def of(axis_name: Any, **options: Any) -> Any:
    """The losses of images, and their gradient."""

    def compute(x: Any, labels: Any, where: Any) -> Any:
        def total(x: Any) -> Any:
            losses = jaxloss.multiclass_generalized_dice_loss(
                x, labels, where=where, axis_name=axis_name, reduction="none", **options
            )
            return jnp.sum(losses), losses

        return jax.grad(total, has_aux=True)(x)

    return compute


def mesh_of(kind: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((IMAGES,), ("images",), axis_types=(kind,))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_in_jit(kind: AxisType) -> None:
    mesh = mesh_of(kind)
    placed = jax.device_put((X, LABELS, WHERE), NamedSharding(mesh, EACH))
    explicit = kind is AxisType.Explicit
    with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
        found = jax.jit(of(None))(*placed)
    check(found, of(None)(X, LABELS, WHERE))


@pytest.mark.parametrize("per_image", [False, True])
def test_in_shard_map(per_image: bool) -> None:
    named = of("images", per_image=per_image, epsilon=0.5)
    mapped = jax.shard_map(named, mesh=mesh_of(AxisType.Auto), in_specs=EACH, out_specs=EACH)
    check(
        jax.jit(mapped)(X, LABELS, WHERE),
        of(None, per_image=per_image, epsilon=0.5)(X, LABELS, WHERE),
    )


def check(found: Any, expected: Any) -> None:
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(got, want)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^axis_name must be an axis .* got str 'other'"):
        of("other")(X, LABELS, WHERE)


def test_background_of_sharded_classes_is_left_out() -> None:
    mesh = jax.make_mesh((3,), ("classes",), axis_types=(AxisType.Explicit,))
    last = NamedSharding(mesh, PartitionSpec(None, None, "classes"))
    options = {"ignore_background": True, "class_weights": jnp.array([1.0, 2.0, 0.5])}
    expected = jaxloss.dice_loss(X, LABELS, **options)
    with jax.set_mesh(mesh):
        assert_close(jaxloss.dice_loss(jax.device_put(X, last), LABELS, **options), expected)
