"""Where the losses of other libraries differ from all losses here: parameters, and shapes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxloss
from jaxloss._help import CALLED_ELSEWHERE
from tests.laws.peers import of_keras, of_optax, of_torch
from tests.laws.public import PUBLIC

# Options of optax that mean something else here.
OTHER_MEANING = {
    ("ctc_loss", "log_epsilon"): "the impossible costs inf by default, not about 1e5",
    ("ctc_loss_with_forward_probs", "log_epsilon"): "the impossible costs inf by default",
    ("dice_loss", "reduction"): "over the batch, as in every loss",
    ("dice_loss", "class_reduction"): "what optax calls reduction",
}


def test_what_optax_takes_is_taken_here():
    theirs = pytest.importorskip("optax.losses")
    shared = [name for name in dir(theirs) if hasattr(jaxloss, name) and not name.startswith("_")]
    regression = {"squared_error", "l2_loss", "huber_loss", "log_cosh"}
    assert regression | {"cosine_similarity", "cosine_distance"} <= set(shared)
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name in shared:

        def alike(function: Any, name: str = name) -> list[inspect.Parameter]:
            parameters = inspect.signature(function).parameters.values()
            return [x for x in parameters if (name, x.name) not in OTHER_MEANING]

        theirs_first, ours = alike(getattr(theirs, name)), alike(getattr(jaxloss, name))
        named = {x.name: x for x in ours}
        for i, asked in enumerate(theirs_first):
            # What goes by keyword alone has no place.
            taken = named[asked.name] if asked.kind is asked.KEYWORD_ONLY else ours[i]
            assert (name, asked.name, asked.default) == (name, taken.name, taken.default)
            assert taken.kind in (asked.kind, by_position), f"{name}: {asked}"
        assert len(ours) >= len(theirs_first)


# Losses of peers that neither are here nor have another name here.
NOT_HERE = {
    "torch.nn": {"AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss"},
    "torch.nn.functional": set(),
    "keras.losses": {"Loss", "deserialize", "get", "serialize"},
    "rax": {"pairwise_qr_loss", "pairwise_soft_zero_one_loss", "poly1_softmax_loss"},
    "optax.losses": set(),
}


@pytest.mark.parametrize("peer", NOT_HERE)
def test_every_loss_of_a_peer_has_a_name_here(peer):
    """Or `jaxloss.MSELoss` would not be answered with what to write."""
    module = pytest.importorskip(peer)
    names = {name for name in dir(module) if not name.startswith("_")}
    if peer not in ("keras.losses", "optax.losses"):
        names = {name for name in names if re.search("[lL]oss$|entropy|^kl_div$", name)}
    others = {name for names in CALLED_ELSEWHERE.values() for name in names.split()}
    assert names - others - set(PUBLIC) <= NOT_HERE[peer]
    assert len(names) > 10


def test_other_names_are_those_of_peers():
    peers = ["torch", "torch.nn", "torch.nn.functional", "keras.losses", "rax"]
    peers += ["sklearn.metrics", "sklearn.metrics.pairwise"]
    names = {name for peer in peers for name in dir(pytest.importorskip(peer))}
    others = {name for names in CALLED_ELSEWHERE.values() for name in names.split()}
    assert others - names == {
        *("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"),
        "compute_ciou",
    }, "torchvision and KerasCV are not installed"


ROW_AND_COLUMN = np.zeros(4, np.float32), np.zeros((4, 1), np.float32)


def _torch_warns(loss: Callable[..., Any]) -> np.ndarray:
    pytest.importorskip("torch")
    with pytest.warns(UserWarning, match="broadcasting"):
        return of_torch(loss, *ROW_AND_COLUMN)[0]


@pytest.mark.parametrize(
    "broadcast",
    [
        lambda: of_optax(lambda o, p, t: o.huber_loss(p, t), *ROW_AND_COLUMN)[0],
        lambda: of_optax(lambda o, p, t: o.log_cosh(p, t), *ROW_AND_COLUMN)[0],
        lambda: _torch_warns(lambda F, p, t: F.mse_loss(p, t, reduction="none")),
        lambda: of_torch(
            lambda F, p, t: F.poisson_nll_loss(p, t, reduction="none"), *ROW_AND_COLUMN
        )[0],
    ],
    ids=["optax-huber", "optax-log_cosh", "torch-mse", "torch-poisson"],
)
def test_peers_make_a_matrix_of_a_row_and_a_column(broadcast):
    assert broadcast().shape == (4, 4)


def test_keras_and_optax_stretch_one_target_over_a_vector():
    column, matrix = np.ones((4, 1), np.float32), np.ones((4, 3), np.float32)
    assert of_keras(lambda k, p, t: k.mean_squared_error(t, p), matrix, column)[0].shape == (4,)
    assert of_optax(lambda o, p, t: o.cosine_distance(p, t), matrix, column)[0].shape == (4,)
    for loss in (jaxloss.squared_error, jaxloss.cosine_distance):
        with pytest.raises(ValueError, match=r"float32\[4, 3\], targets float32\[4, 1\]"):
            loss(matrix, column)


@pytest.mark.parametrize("name", ["huber_loss", "log_cosh", "squared_error", "poisson_nll_loss"])
def test_a_row_and_a_column_are_refused_here(name):
    with pytest.raises(ValueError, match=r"predictions float32\[4\], targets float32\[4, 1\]"):
        getattr(jaxloss, name)(*ROW_AND_COLUMN)
