"""What a user reads: one sentence, on what was wrong and, where that is known, what to write."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.laws.public import LOSSES

X = np.ones(4, np.float32)
VECTORS = np.ones((4, 3), np.float32)
CLASSES = np.array([0, 1, 2, 0], np.int32)
BOXES = np.ones((5, 4), np.float32)
# Two images of 8 x 8 pixels and three classes, the classes first, with a map of class numbers.
IMAGES, MAPS = np.ones((2, 3, 8, 8), np.float32), np.zeros((2, 8, 8), np.int32)
LAST = np.moveaxis(IMAGES, 1, -1)
# What is refused here is refused by type checkers too.
jl: Any = jaxloss

Row = tuple[Callable[[], Any], type[Exception], str]

KEYWORDS: list[Row] = [
    (
        lambda: jl.l1_loss(X, X, reducton="mean"),
        TypeError,
        "l1_loss() has no argument 'reducton'; did you mean 'reduction'?",
    ),
    (
        lambda: jl.l1_loss(X, X, reducton=jnp.ones(2)),
        TypeError,
        "l1_loss() has no argument 'reducton'; did you mean 'reduction'?",
    ),
    (
        lambda: jl.reduce(X, wheer=X > 0),
        TypeError,
        "reduce() has no argument 'wheer'; did you mean 'where'?",
    ),
    (
        lambda: jl.triplet_margin_with_distance_loss(
            VECTORS, VECTORS, VECTORS, distance_function=lambda u, v: u[..., 0], margn=1.0
        ),
        TypeError,
        "triplet_margin_with_distance_loss() has no argument 'margn'; did you mean 'margin'?",
    ),
    # Abbreviations, and parts of a name.
    (
        lambda: jl.approx_ndcg_loss(VECTORS, VECTORS, temp=1.0),
        TypeError,
        "approx_ndcg_loss() has no argument 'temp'; did you mean 'temperature'?",
    ),
    (
        lambda: jl.asymmetric_loss(X, X, gamma=2.0),
        TypeError,
        "asymmetric_loss() has no argument 'gamma'; did you mean 'gamma_negative' or "
        "'gamma_positive'?",
    ),
    # The names of another loss or library.
    (
        lambda: jl.ntxent(VECTORS, np.arange(4), logit_scale=10.0),
        TypeError,
        "ntxent() has no argument 'logit_scale'; its temperature is 1 / logit_scale",
    ),
    (
        lambda: jl.smooth_l1_loss(X, X, delta=1.0),
        TypeError,
        "smooth_l1_loss() has no argument 'delta'; did you mean 'beta'?",
    ),
    (
        lambda: jl.huber_loss(X, X, beta=1.0),
        TypeError,
        "huber_loss() has no argument 'beta'; did you mean 'delta'?",
    ),
    (
        lambda: jl.nll_loss(VECTORS, CLASSES, weight=X),
        TypeError,
        "nll_loss() has no argument 'weight'; did you mean 'class_weights'?",
    ),
    (
        lambda: jl.l1_loss(X, X, weight=X),
        TypeError,
        "l1_loss() has no argument 'weight'; did you mean 'weights'?",
    ),
    (
        lambda: jl.dice_loss(LAST, MAPS, ignore_index=255),
        TypeError,
        "dice_loss() has no argument 'ignore_index'; write where=targets != ignore_index",
    ),
    (
        lambda: jl.l1_loss(X, X, size_average=False),
        TypeError,
        'l1_loss() has no argument \'size_average\'; write reduction="mean" or reduction="sum"',
    ),
    # What other losses have, and this one has not, is not misspelt.
    (
        lambda: jl.hinge_loss(X, X, margin=1.0),
        TypeError,
        "hinge_loss() has no argument 'margin'; it takes predictor_outputs, targets, where, "
        "weights, reduction",
    ),
]

PLACES: list[Row] = [
    (
        lambda: jl.l1_loss(X, X, "mean"),
        TypeError,
        'l1_loss() takes reduction by keyword only: reduction="mean"',
    ),
    (
        lambda: jl.kl_divergence(VECTORS, VECTORS, "mean"),
        TypeError,
        'kl_divergence() takes reduction by keyword only: reduction="mean"',
    ),
    (
        lambda: jl.reduce(X, "sum"),
        TypeError,
        'reduce() takes reduction by keyword only: reduction="sum"',
    ),
    (
        lambda: jl.reduce(X, X > 0),
        TypeError,
        "reduce() takes one argument by position, got 2; where is a keyword: where=...",
    ),
    (
        lambda: jl.huber_loss(X, X, 2.0),
        TypeError,
        "huber_loss() takes 2 arguments by position, got 3; delta is a keyword: delta=2.0",
    ),
    (
        lambda: jl.giou_loss(BOXES, BOXES, "xywh"),
        TypeError,
        "giou_loss() takes 2 arguments by position, got 3; box_format is a keyword: "
        'box_format="xywh"',
    ),
    (
        lambda: jl.clip_loss(VECTORS, VECTORS, X, logit_scale=1.0),
        TypeError,
        "clip_loss() takes 2 arguments by position, got 3; labels is a keyword: labels=...",
    ),
    (
        lambda: jl.pairwise_similarity(VECTORS, VECTORS, 1),
        TypeError,
        "pairwise_similarity() takes 2 arguments by position, got 3",
    ),
    (
        lambda: jl.triplet_margin_loss(VECTORS, VECTORS, VECTORS, 0.5),
        TypeError,
        "axis must be an integer or a tuple of integers, got 0.5; margin is a keyword: margin=0.5",
    ),
    (
        lambda: jl.quantile_loss(X, X),
        TypeError,
        "quantile_loss() missing 1 required keyword-only argument: 'quantile'",
    ),
]

SETTINGS: list[Row] = [
    (
        lambda: jl.dice_loss(LAST, MAPS, apply_softmax="no"),
        TypeError,
        "apply_softmax must be True or False, got str 'no'",
    ),
    (
        lambda: jl.l1_loss(X, reduction=jnp.mean),
        ValueError,
        "reduction must be one of 'none', 'sum', 'mean', got function mean",
    ),
    (
        lambda: jl.gaussian_nll_loss(X, X, X, full=jnp.ones(4)),
        TypeError,
        "full must be a hashable Python value, got array float32[4]",
    ),
    (
        lambda: jl.multi_hot(CLASSES, jnp.ones(4)),
        TypeError,
        "num_classes must be a hashable Python value, got array float32[4]",
    ),
    (
        lambda: jl.ranking_softmax_loss(VECTORS, VECTORS, reduce_fn="mean"),
        TypeError,
        "reduce_fn must be a function, got str 'mean'",
    ),
    (
        lambda: jl.ranking_softmax_loss(VECTORS, VECTORS, reduce_fn=None, reduction="avg"),
        ValueError,
        "reduction must be one of 'none', 'sum', 'mean', got 'avg'",
    ),
    (
        lambda: jl.triplet_margin_with_distance_loss(
            VECTORS, VECTORS, VECTORS, distance_function="l2"
        ),
        TypeError,
        "distance_function must be a function, got str 'l2'",
    ),
    (
        lambda: jl.triplet_margin_with_distance_loss(
            VECTORS, VECTORS, VECTORS, distance_function=lambda u, v: None
        ),
        TypeError,
        "what distance_function returns must be an array or a number, got None",
    ),
    (lambda: jl.make_fenchel_young_loss(3), TypeError, "max_fun must be a function, got int 3"),
    (
        lambda: jl.make_fenchel_young_loss(lambda s: s)(X, X),
        ValueError,
        "max_fun must return one number, got value float32[4]",
    ),
    (
        lambda: jl.pairwise_distance(VECTORS, norm_degree="2"),
        ValueError,
        "norm_degree must be a number of at least 1, got '2'",
    ),
    (
        lambda: jl.cosine_similarity(VECTORS, VECTORS, epsilon=X),
        ValueError,
        "epsilon must be one number, got epsilon float32[4]",
    ),
]

DATA: list[Row] = [
    (
        lambda: jl.l1_loss(X, where=np.ones(4, np.int32)),
        TypeError,
        "where must be boolean, got where int32[4]; if what is not 0 counts, where.astype(bool)",
    ),
    (
        lambda: jl.reduce(X, where=X),
        TypeError,
        "where must be boolean, got where float32[4]; if what is not 0 counts, where.astype(bool)",
    ),
    (
        lambda: jl.l1_loss(CLASSES, X),
        TypeError,
        "predictions must be floating-point and come before targets, got predictions int32[4], "
        "targets float32[4]",
    ),
    (
        lambda: jl.nll_loss(CLASSES, VECTORS),
        TypeError,
        "log_predictions must be floating-point and come before labels, got log_predictions "
        "int32[4], labels float32[4, 3]",
    ),
    (
        lambda: jl.listnet_loss(1.0, 1.0),
        ValueError,
        "scores must have at least one axis, got scores float32[]",
    ),
    (
        lambda: jl.box_iou(BOXES, BOXES[:3]),
        ValueError,
        "expected equal shapes, got boxes1 float32[5, 4], boxes2 float32[3, 4]; for all pairs of "
        "two sets of boxes: jax.vmap, twice",
    ),
    (
        lambda: jl.kl_divergence(VECTORS, 1.0),
        ValueError,
        "expected equal shapes, got log_predictions float32[4, 3], targets float32[]",
    ),
    (
        lambda: jl.sigmoid_binary_cross_entropy(X, X, pos_weight=X[:3]),
        ValueError,
        "hyperparameters must broadcast against the data, got logits float32[4], labels "
        "float32[4], pos_weight float32[3]",
    ),
    (
        lambda: jl.l1_loss(X, [[1.0], [1.0, 2.0]]),
        TypeError,
        "targets must be an array or a number, got list [[1.0], [1.0, 2.0]]; a list must hold "
        "numbers, in rows of one length",
    ),
    (
        lambda: jl.l1_loss(X, weights=[jnp.float32(1.0), None]),
        TypeError,
        "weights must be an array or a number, got list [Array(1., dtype=float32), None]; a list "
        "must hold numbers, in rows of one length",
    ),
    (
        lambda: jl.l1_loss(np.zeros(3, [("a", float)])),
        TypeError,
        "predictions must be an array or a number, got ndarray [('a', '<f8')][3]",
    ),
    (
        lambda: jl.l1_loss(np.ma.masked_invalid(X)),
        TypeError,
        "predictions must be an array or a number, got MaskedArray float32[4]; write "
        "predictions.data, with where=~predictions.mask",
    ),
    (
        lambda: jl.l1_loss(X, object()),
        TypeError,
        "targets must be an array or a number, got object",
    ),
]

LAYOUTS: list[Row] = [
    *(
        (
            lambda loss=loss: loss(IMAGES, MAPS),
            ValueError,
            f"{labels} must have the shape of predictions, where the classes are last, or that "
            f"shape without them, got predictions float32[2, 3, 8, 8], {labels} int32[2, 8, 8]; "
            "with classes along axis 1: jnp.moveaxis(predictions, 1, -1)",
        )
        for loss, labels in (
            (jl.dice_loss, "targets"),
            (jl.tversky_loss, "targets"),
            (jl.focal_tversky_loss, "targets"),
            (jl.jaccard_loss, "targets"),
            (jl.multiclass_generalized_dice_loss, "targets"),
            (jl.lovasz_softmax_loss, "labels"),
        )
    ),
    (
        lambda: jl.dice_loss(LAST, IMAGES),
        ValueError,
        "targets must have the shape of predictions, where the classes are last, or that shape "
        "without them, got predictions float32[2, 8, 8, 3], targets float32[2, 3, 8, 8]; with "
        "classes along axis 1: jnp.moveaxis(targets, 1, -1)",
    ),
    (
        lambda: jl.lovasz_hinge_loss(IMAGES, MAPS),
        ValueError,
        "expected equal shapes, got logits float32[2, 3, 8, 8], labels int32[2, 8, 8]; with "
        "several classes along axis 1: dice_loss or lovasz_softmax_loss of jnp.moveaxis(logits, "
        "1, -1)",
    ),
    (
        lambda: jl.binary_dice_loss(IMAGES[:, :1], MAPS),
        ValueError,
        "expected equal shapes, got predictions float32[2, 1, 8, 8], targets int32[2, 8, 8]; drop "
        "axis 1 of predictions: jnp.squeeze(predictions, 1)",
    ),
    *(
        (
            lambda loss=loss: loss(IMAGES, MAPS),
            ValueError,
            f"labels must be class numbers of shape [2, 3, 8], got {scores} float32[2, 3, 8, 8], "
            "labels int32[2, 8, 8]; for classes along another axis: axis=1",
        )
        for loss, scores in (
            (jl.softmax_cross_entropy_with_integer_labels, "logits"),
            (jl.softmax_focal_loss, "logits"),
            (jl.nll_loss, "log_predictions"),
            (jl.multi_margin_loss, "scores"),
        )
    ),
    (
        lambda: jl.softmax_cross_entropy(IMAGES, MAPS),
        ValueError,
        "expected equal shapes, got logits float32[2, 3, 8, 8], labels int32[2, 8, 8]; for class "
        "numbers: softmax_cross_entropy_with_integer_labels; for classes along another axis: "
        "axis=1",
    ),
]


@pytest.mark.parametrize(
    ("bad", "error", "message"), [*KEYWORDS, *PLACES, *SETTINGS, *DATA, *LAYOUTS]
)
def test_one_sentence(bad: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        bad()
    assert str(caught.value) == message
    # No other error, and no note of JAX, frames it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(("bad", "error", "message"), [*KEYWORDS, *PLACES])
def test_one_sentence_inside_jit(bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        jax.jit(bad)()
    assert str(caught.value) == message


def test_a_setting_that_is_traced() -> None:
    with pytest.raises(TypeError) as caught:
        jax.jit(lambda axis: jl.cosine_distance(VECTORS, VECTORS, axis=axis))(0)
    assert str(caught.value) == (
        "axis must be a hashable Python value, got traced array int32[]; "
        "static_argnames of jax.jit keeps it one"
    )


@pytest.mark.parametrize("name", [*LOSSES, "reduce"])
def test_no_loss_takes_what_it_does_not_name(name: str) -> None:
    loss = getattr(jaxloss, name)
    parameters = inspect.signature(loss).parameters
    with pytest.raises(TypeError) as caught:
        loss(nonsense="mean")
    assert str(caught.value) == (
        f"{loss.__name__}() has no argument 'nonsense'; it takes {', '.join(parameters)}"
    )
    places = sum(x.kind is not x.KEYWORD_ONLY for x in parameters.values())
    with pytest.raises(TypeError, match=rf"by position, got {places + 1}"):
        loss(*[X] * (places + 1))


# Duck-typed: torch and TensorFlow are not imported.
Torch = type("Tensor", (), {"__module__": "torch"})
Parameter = type("Parameter", (Torch,), {"__module__": "model"})
TensorFlow = type("EagerTensor", (), {"__module__": "tensorflow.python.framework.ops"})
FROM_TORCH = "tensor.detach().cpu().numpy() or jnp.from_dlpack(tensor.detach())"


@pytest.mark.parametrize(
    ("tensor", "kind", "written"),
    [
        (Torch(), "Tensor", FROM_TORCH),
        (Parameter(), "Parameter", FROM_TORCH),
        (TensorFlow(), "EagerTensor", "tensor.numpy()"),
    ],
)
def test_tensors_of_other_libraries(tensor: Any, kind: str, written: str) -> None:
    for name, refused in {
        "predictions": lambda: jl.l1_loss(tensor),
        "targets": lambda: jl.l1_loss(X, tensor),
        "where": lambda: jl.l1_loss(X, where=tensor),
        "weights": lambda: jl.reduce(X, weights=tensor),
        "delta": lambda: jl.huber_loss(X, delta=tensor),
        "anchors": lambda: jl.triplet_margin_with_distance_loss(
            tensor, VECTORS, VECTORS, distance_function=lambda u, v: u[..., 0]
        ),
    }.items():
        with pytest.raises(TypeError) as caught:
            refused()
        expected = f"{name} must be an array or a number, got {kind}; write {written}"
        assert str(caught.value) == expected
    with pytest.raises(TypeError, match=r"got list; write tensor\."):
        jl.l1_loss(X, [tensor] * 4)


def test_a_tensor_that_numpy_cannot_read() -> None:
    """As those of torch that take part in a derivative."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    kind = type("Tensor", (Torch,), {"__array__": refuse})
    with pytest.raises(TypeError) as caught:
        jl.l1_loss(X, kind())
    expected = f"targets must be an array or a number, got Tensor; write {FROM_TORCH}"
    assert str(caught.value) == expected


def test_what_numpy_reads_is_data() -> None:
    """Of another library too, and without wrapping its integers of 64 bits."""

    class Series:
        def __init__(self, numbers: list[int]) -> None:
            self.numbers = numbers

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.asarray(self.numbers)

    np.testing.assert_array_equal(jl.l1_loss(X, Series([3, 1, 1, 1])), [2, 0, 0, 0])
    losses = jl.softmax_cross_entropy_with_integer_labels(VECTORS, Series([0, 1, 2, 2**40]))
    np.testing.assert_array_equal(np.isnan(losses), [False, False, False, True])


def test_lists_of_several_types() -> None:
    """NumPy's rule holds for the items of a list, though arrays are not promoted here."""
    half, whole = jnp.float16(1.5), jnp.int32(2)
    for items in (
        [half, whole],
        [half, np.float32(2)],
        [jnp.float32(1.5), half + 0.5],
        [whole, 1.5],
    ):
        for total in (jl.reduce, jax.jit(jl.reduce)):
            assert jnp.sum(total(items)) == 3.5
