"""What becomes of a formula: its name, signature, documentation, pickles, and what is refused."""

from __future__ import annotations

import copy
import enum
import functools
import inspect
import pickle
import pydoc
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import elementwise, over_axis
from tests.custom import restated

MAKERS = pytest.mark.parametrize("make", [elementwise, over_axis], ids=["elementwise", "over_axis"])


def squared(predictions: Any, targets: Any = 0.0, *, scale: Any = 1.0) -> Any:
    """The squared error.

    In units of the scale.
    """
    return jnp.sum(((predictions - targets) / scale) ** 2)


def slopes(predictions: Any, targets: Any, *, scale: Any) -> Any:
    return 2 * (predictions - targets) / scale**2


def of_element(predictions: Any, targets: Any = 0.0, *, scale: Any = 1.0) -> Any:
    """The squared error."""
    return ((predictions - targets) / scale) ** 2


# Under another name than that of the formula, which the module has already.
halved = elementwise(of_element, derivative=slopes)
NAMED = {elementwise: of_element, over_axis: squared}


@MAKERS
def test_it_looks_like_its_formula(make: Any) -> None:
    loss = make(NAMED[make])
    own = NAMED[make].__name__
    assert (loss.__name__, loss.__qualname__, loss.__module__) == (own, own, __name__)
    axis = ["axis"] if make is over_axis else []
    parameters = inspect.signature(loss).parameters
    ruled = ["where", "weights", "reduction"]
    assert list(parameters) == ["predictions", "targets", "scale", *axis, *ruled]
    assert [x.default for x in parameters.values()][1:3] == [0.0, 1.0]
    assert all(parameters[x].kind is inspect.Parameter.KEYWORD_ONLY for x in [*axis, *ruled])
    assert inspect.unwrap(loss) is NAMED[make]
    written = "axis=-1, " if axis else ""
    signature = f"(predictions, targets=0.0, *, scale=1.0, {written}where=None, weights=None"
    assert repr(loss) == f"<loss {own}{signature}, reduction='none')>"
    text = pydoc.plain(pydoc.render_doc(loss))
    assert own in text
    assert "The squared error." in text
    assert "`where`, `weights`, `reduction`: see `jaxloss.reduce`." in text


def test_a_lambda_has_the_documentation_of_the_rule() -> None:
    loss = elementwise(lambda x: x * x)
    assert loss.__doc__ == "`where`, `weights`, `reduction`: see `jaxloss.reduce`."


@MAKERS
def test_decorators_with_and_without_arguments(make: Any) -> None:
    plain, called, optioned = make(NAMED[make]), make()(NAMED[make]), make(static=())(NAMED[make])
    x = jnp.arange(6.0).reshape(2, 3)
    for loss in (plain, called, optioned):
        np.testing.assert_array_equal(loss(x, scale=2.0), plain(x, scale=2.0))


def test_pickled_by_name_where_a_module_has_it() -> None:
    for loss in (restated.huber_loss, restated.cosine_distance):
        assert pickle.loads(pickle.dumps(loss)) is loss
        assert copy.deepcopy(loss) is loss


def test_pickled_by_its_formula_elsewhere() -> None:
    """With its options, under any name."""
    x = jnp.array([1.0, 3.0])
    again = pickle.loads(pickle.dumps(halved))
    np.testing.assert_array_equal(again(x, scale=2.0), halved(x, scale=2.0))
    assert jax.grad(again)(1.0, scale=2.0) == jax.grad(halved)(1.0, scale=2.0) == 0.5
    columns = pickle.loads(pickle.dumps(over_axis(squared, axis=0)))
    np.testing.assert_array_equal(columns(jnp.ones((2, 3))), [2, 2, 2])
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(elementwise(lambda x: x))


def test_unpickled_in_another_process() -> None:
    code = "import pickle, sys; print(*(f([3.0], [1.0]) for f in pickle.load(sys.stdin.buffer)))"
    given = pickle.dumps((halved, restated.huber_loss))
    found = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True)
    assert found.stdout.split() == [b"[4.]", b"[1.5]"], found.stderr


def test_compiled_once_for_all_numbers_and_once_for_each_setting() -> None:
    traces: list[Any] = []

    @elementwise
    def traced(x: Any, *, power: Any = 2.0, kind: str = "plain") -> Any:
        traces.append(kind)
        return x**power

    for power in (2.0, 3.0, np.float32(4.0), jnp.float32(5.0)):
        assert traced(jnp.float32(2.0), power=power) == 2.0**power
    assert len(set(traces)) == 1
    before = len(traces)
    traced(jnp.float32(2.0), kind="other")
    assert traces[before:] == ["other"]


class Shape(enum.Enum):
    FLAT = "flat"
    STEEP = "steep"


def double(x: Any) -> Any:
    return 2 * x


def test_settings_are_found_by_default_and_by_annotation() -> None:
    seen: dict[str, Any] = {}

    @elementwise(static=["order"])
    def settled(
        x: Any,
        *,
        squared: bool = False,
        shape: Shape = Shape.FLAT,
        kind: Literal["a", "b"],
        name: str | None = None,
        outer: Callable[[Any], Any] | None = None,
        inner: Any = double,
        order: int,
        scale: float = 1.0,
        cap: float | None = None,
    ) -> Any:
        seen.update(locals())
        return x * scale if cap is None else jnp.minimum(x * scale, cap)

    given: dict[str, Any] = {"kind": "b", "order": 3}
    assert settled(2.0, **given) == 2
    assert seen["shape"] is Shape.FLAT
    assert (seen["squared"], seen["kind"], seen["name"], seen["order"]) == (False, "b", None, 3)
    assert seen["inner"] is double
    assert seen["cap"] is None
    assert isinstance(seen["scale"], jax.Array)
    others = {"squared": True, "shape": Shape.STEEP, "name": "n", "outer": double, "cap": 1.5}
    assert settled(2.0, **given, **others, scale=3.0) == 1.5
    assert {name: seen[name] for name in others if name != "cap"} | {"cap": 1.5} == others
    assert isinstance(seen["cap"], jax.Array)
    np.testing.assert_array_equal(settled([1.0, 2.0], **given, cap=[0.5, 3.0]), [0.5, 2.0])
    with pytest.raises(TypeError, match="squared must be True or False, got str 'yes'"):
        settled(2.0, **given, squared="yes")


def test_an_annotation_that_cannot_be_read_hides_no_other() -> None:
    @elementwise
    def signed(x: Unknown, *, sign: Literal["+", "-"]) -> Any:  # type: ignore # noqa: F821
        return x if sign == "+" else -x

    assert signed(2.0, sign="-") == -2


def test_a_callable_object_and_a_partial_are_formulas() -> None:
    class Scaled:
        def __call__(self, x: Any, *, scale: Any = 2.0) -> Any:
            return x * scale

    assert elementwise(Scaled())(3.0) == 6
    assert elementwise(functools.partial(of_element, scale=2.0))(4.0, 0.0) == 4
    assert elementwise(jnp.square)(3.0) == 9


def test_inside_a_function_it_reads_what_is_traced_there() -> None:
    @jax.grad
    def slope(scale: Any) -> Any:
        return elementwise(lambda x: scale * x)(2.0)

    assert slope(3.0) == 2


# What is refused here is refused by type checkers too.
jl: Any = jaxloss
X = np.ones(3, np.float32)
ROWS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: jl.elementwise(3), TypeError, "fn must be a function, got int 3"),
    (
        lambda: jl.elementwise(lambda *xs: xs[0]),
        TypeError,
        "<lambda> must name each of its arguments for elementwise, got *xs",
    ),
    (
        lambda: jl.over_axis(lambda x, **options: x),
        TypeError,
        "<lambda> must name each of its arguments for over_axis, got **options",
    ),
    (
        lambda: jl.elementwise(lambda x, weights: x),
        TypeError,
        "elementwise adds weights: <lambda> must not have an argument of this name",
    ),
    (
        lambda: jl.elementwise(lambda x, *, where: x),
        TypeError,
        "elementwise adds where: <lambda> must not have an argument of this name",
    ),
    (
        lambda: jl.over_axis(lambda x, *, axis: x),
        TypeError,
        "over_axis adds axis: <lambda> must not have an argument of this name",
    ),
    (
        lambda: jl.over_axis(lambda x, where: x),
        TypeError,
        "<lambda> must take where by keyword only, got the arguments (x, where)",
    ),
    (
        lambda: jl.elementwise(lambda *, scale: scale),
        TypeError,
        "<lambda> must take predictions by position, got the arguments (*, scale)",
    ),
    (
        lambda: jl.elementwise(range),
        TypeError,
        "the arguments of range cannot be read; write it as a function of your own",
    ),
    (
        lambda: jl.elementwise(of_element, derivative=lambda predictions: predictions),
        TypeError,
        "the derivative of of_element must take the arguments "
        "(predictions, targets=0.0, *, scale=1.0) of the formula, got (predictions)",
    ),
    (
        lambda: jl.elementwise(of_element, derivative="tanh"),
        TypeError,
        "derivative must be a function, got str 'tanh'",
    ),
    (
        lambda: jl.elementwise(of_element, domain={"sale": double}),
        ValueError,
        "domain: of_element has no such number 'sale'; it has predictions, targets, scale",
    ),
    (
        lambda: jl.elementwise(of_element, domain={"scale": 3}),
        TypeError,
        "the domain of scale must be a function, got int 3",
    ),
    (
        lambda: jl.elementwise(of_element, domain={"scale": double})(X),
        TypeError,
        "the domain of scale must return booleans of shape [], got float32[]",
    ),
    (
        lambda: jl.elementwise(of_element, static="scale"),
        TypeError,
        "static must be a sequence of names, got 'scale'; write ('scale',)",
    ),
    (
        lambda: jl.elementwise(of_element, static=["targets"]),
        ValueError,
        "static: of_element has no keyword-only argument 'targets'; it has scale",
    ),
    (
        lambda: jl.over_axis(squared, per_example=["label"]),
        ValueError,
        "per_example: squared has no further data 'label'; it has targets",
    ),
    (
        lambda: jl.over_axis(squared, class_numbers=["predictions"]),
        ValueError,
        "class_numbers: squared has no further data 'predictions'; it has targets",
    ),
    (
        lambda: jl.over_axis(lambda x: x, per_entry=["w"]),
        ValueError,
        "per_entry: <lambda> has no hyperparameter 'w'; it has none",
    ),
    (
        lambda: jl.elementwise(jnp.sum)(X),
        TypeError,
        "elementwise adds where: sum must not have an argument of this name",
    ),
    (
        lambda: jl.elementwise(lambda x: jnp.mean(x))(X),
        ValueError,
        "<lambda> must return one loss for each element, of shape [3]; it returned float32[]",
    ),
    (
        lambda: jl.over_axis(lambda x: x)(X),
        ValueError,
        "<lambda> must return one number for the vectors of an example; it returned float32[3]",
    ),
    (
        lambda: jl.elementwise(lambda x: None)(X),
        TypeError,
        "what <lambda> returns must be an array or a number, got None",
    ),
    (
        lambda: jax.jvp(jl.elementwise(double, derivative=lambda x: jnp.ones(2)), (X,), (X,)),
        ValueError,
        "the derivative of double in x must have shape [3], got float32[2]",
    ),
    (
        lambda: jax.jvp(jl.elementwise(double, derivative=lambda x: (x, x)), (X,), (X,)),
        ValueError,
        "the derivative of double must return no more slopes than in x, got 2",
    ),
    (
        lambda: jax.grad(jl.over_axis(lambda a: a @ a, derivative=lambda a: 1.0))(X),
        ValueError,
        "the derivative of <lambda> in a must have shape [3], got float32[]",
    ),
    (lambda: halved(), TypeError, "of_element() is missing a required argument: 'predictions'"),
    (
        lambda: halved(X, X, 2.0),
        TypeError,
        "of_element() takes 2 arguments by position, got 3; scale is a keyword: scale=2.0",
    ),
    (
        lambda: halved(X, scal=2.0),
        TypeError,
        "of_element() has no argument 'scal'; did you mean 'scale'?",
    ),
    (
        lambda: halved(X, X[:, None]),
        ValueError,
        "expected equal shapes, got predictions float32[3], targets float32[3, 1]; "
        "drop the last axis of targets: targets[..., 0]",
    ),
    (
        lambda: halved([1, 2]),
        TypeError,
        "predictions must be floating-point and come before targets, got predictions int32[2], "
        "targets float32[]",
    ),
    (
        lambda: halved(X, None),
        TypeError,
        "targets must be an array or a number, got None",
    ),
    (
        lambda: halved(X, scale=np.ones(4, np.float32)),
        ValueError,
        "hyperparameters must broadcast against the data, got predictions float32[3], "
        "targets float32[3], scale float32[4]",
    ),
    (
        lambda: halved(X, reduction="avg"),
        ValueError,
        "reduction must be one of 'none', 'sum', 'mean', got 'avg'",
    ),
    (
        lambda: jl.over_axis(squared)(X, where=X > 0),
        ValueError,
        "where must be a scalar or have the rank of the loss, with its sizes or 1; expected [], "
        "got predictions float32[3], where bool[3]; to exclude entries, squared must take where",
    ),
    (
        lambda: jl.over_axis(squared)(X, axis=1),
        ValueError,
        "axis must lie in [-1, 1) for predictions float32[3], got 1",
    ),
    (
        lambda: restated.softmax_cross_entropy_with_integer_labels(np.ones((2, 3)), [0.0, 1.0]),
        TypeError,
        "labels must be integers, the numbers of entries, got labels float32[2]",
    ),
    (
        lambda: restated.softmax_cross_entropy_with_integer_labels(np.ones((2, 3)), [0, 1, 2]),
        ValueError,
        "labels must be the number of an entry for each vector, of shape [2], or a scalar, "
        "got logits float32[2, 3], labels int32[3]",
    ),
    (
        lambda: restated.softmax_cross_entropy(
            np.ones((2, 3)), np.ones((2, 3)), class_weights=[1.0, 2.0]
        ),
        ValueError,
        "class_weights must have shape [3], a number for each entry, got class_weights float32[2]",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ROWS, ids=[row[2][:60] for row in ROWS])
def test_mistakes_are_named(call: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
