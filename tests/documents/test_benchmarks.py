"""What the tables of benchmarks are made with, and need no peer for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


programs = load("programs")

# As a TPU's compiler prints it: a product is a convolution in a fusion, which another fusion within
# hands 3 of 12 rows; the loop does not say how often it runs.
TPU = """\
HloModule jit_f

%cut (param_0: f32[12,8], param_1: s32[]) -> f32[3,8] {
  %param_0 = f32[12,8]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  ROOT %slice = f32[3,8]{1,0} dynamic-slice(%param_0, %param_1, %param_1), dynamic_slice_sizes={3,8}
}

%product (param_0.1: f32[12,8], param_1.1: s32[], param_2: f32[8,5]) -> f32[3,5] {
  %param_0.1 = f32[12,8]{1,0} parameter(0)
  %param_1.1 = s32[] parameter(1)
  %param_2 = f32[8,5]{1,0} parameter(2)
  %rows = f32[3,8]{1,0} fusion(%param_0.1, %param_1.1), kind=kLoop, calls=%cut
  ROOT %convolution = f32[3,5]{1,0} convolution(%rows, %param_2), dim_labels=bf_io->bf
}

%body (state: (s32[], f32[12,8], f32[8,5], f32[3,5])) -> (s32[], f32[12,8], f32[8,5], f32[3,5]) {
  %state = STATE parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %a = f32[12,8]{1,0} get-tuple-element(%state), index=1
  %b = f32[8,5]{1,0} get-tuple-element(%state), index=2
  %c = f32[3,5]{1,0} fusion(%a, %i, %b), kind=kOutput, calls=%product
  ROOT %next = STATE tuple(%i, %a, %b, %c)
}

%condition (state.1: (s32[], f32[12,8], f32[8,5], f32[3,5])) -> pred[] {
  %limit = s32[] constant(7)
  %state.1 = STATE parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %lt = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (given: (s32[], f32[12,8], f32[8,5], f32[3,5])) -> f32[3,5] {
  %given = STATE parameter(0)
  %loop = STATE while(%given), condition=%condition, body=%body
  ROOT %out = f32[3,5]{1,0} get-tuple-element(%loop), index=3
}
""".replace("STATE", "(s32[], f32[12,8]{1,0}, f32[8,5]{1,0}, f32[3,5]{1,0})")


def test_products_and_bytes_of_a_loop_of_a_tpu() -> None:
    cost = programs.Program(TPU).cost
    assert cost.multiplied == 7 * 3 * 5 * 8
    # Each time the rows that are cut, the number of the first, the other factor and the product.
    assert cost.moved == 7 * (4 * 3 * 8 + 4 + 4 * 8 * 5 + 4 * 3 * 5)
    assert cost.kernels == 7


def test_products_are_those_of_the_compiled_program() -> None:
    def products(a: jax.Array, b: jax.Array) -> jax.Array:
        def step(total: jax.Array, some: jax.Array) -> tuple[jax.Array, None]:
            return total + jnp.sin(some @ b), None

        return jax.lax.scan(step, jnp.zeros((4, 9)), a)[0]

    a, b = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((6, 4, 8), (8, 9)))
    text = jax.jit(products).lower(a, b).compile().as_text()
    assert text is not None
    assert programs.Program(text).cost.multiplied == 6 * 4 * 8 * 9


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # It says where JAX computes, for the rest of a process, and where tests are found.
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(sys, "path", list(sys.path))
    return load("_common")


def test_a_part_of_a_file_is_replaced_and_the_rest_is_kept(
    common: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "RESULTS.md"
    common.publish("# Speed", path)
    common.publish("## Scale", path, "scale")
    common.publish("## Other", path, "other")
    common.publish("## Scale, again", path, "scale")
    common.publish("# Speed, again", path)
    text = path.read_text()
    assert text.startswith("# Speed, again\n\n<!-- begin scale -->\n## Scale, again\n")
    assert text.endswith("<!-- begin other -->\n## Other\n<!-- end other -->\n")
    assert text.count("# Speed") == text.count("## Scale") == text.count("## Other") == 1
