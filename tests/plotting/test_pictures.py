"""The pictures of the site: every public loss has one, and it fits into any page."""

from __future__ import annotations

import functools
import importlib
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from tests.laws.public import LOSSES, ROOT

# One of each kind of scene; the gate of the site looks at all.
DRAWN = (
    "l1_loss",
    "hinge_loss",
    "contrastive_loss",
    "total_variation_distance",
    "lifted_structure_loss",
    "n_pairs_loss",
    "pairwise_distance",
    "pairwise_mse_loss",
    "crps_ensemble",
    "energy_score",
    "interval_score",
    "lambda_weights",
    "iou_loss",
    "encode_boxes",
    "binary_dice_loss",
    "sequence_log_probabilities",
    "hl_gauss",
    "group_advantages",
    "linear_softmax_cross_entropy",
    "cached_value_and_grad",
    "multi_hot",
    "smooth_labels",
)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs" / "_ext")
        module = importlib.import_module("pictures")
        # JAX has started, with the flags of the tests.
        module.compile_quickly = lambda: None  # type: ignore[attr-defined]
        return module


@functools.cache
def drawn(name: str, small: bool) -> list[str]:
    return importlib.import_module("pictures").svg(name, small=small)


def test_every_loss_has_a_picture(pictures: Any) -> None:
    assert set(LOSSES) == pictures.NAMES
    assert set(pictures.VARIED) <= pictures.NAMES


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_a_part_of_a_page(pictures: Any, name: str) -> None:
    large, small = drawn(name, False), drawn(name, True)
    assert len(small) == 1
    assert len(small[0]) < 12_000
    ids: list[str] = []
    for picture in (*large, *small):
        assert len(picture) < 32_000
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        title = root.find(f"{SVG}title")
        assert title is not None
        assert (title.text or "").startswith(name)
        # Colours are those of the page, and no rule reaches beyond the picture.
        assert not re.search(r"#[0-9a-fA-F]{6}\b", picture)
        assert root.find(f".//{SVG}style") is None
        assert "currentColor" in picture
        ids += [x.get("id", "") for x in root.iter() if x.get("id")]
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', picture))
        assert used <= set(ids)
    assert len(set(ids)) == len(ids)
    assert all(x.startswith(f"{name}-") for x in ids)


def test_a_family_has_a_colour_each_and_a_legend(pictures: Any) -> None:
    (value, _) = drawn("hinge_loss", False)
    assert "var(--curve-1)" in value
    assert "var(--curve-2)" in value
    words = {x.text for x in ET.fromstring(value).iter(f"{SVG}text")}
    assert {"target = 1", "-1", "loss"} <= words


def test_the_kink_is_a_dot_at_the_gradient_of_jax(pictures: Any) -> None:
    (curve,), *_ = pictures._measured("l1_loss")
    assert [(b.x, b.order, b.heights[1]) for b in curve.breaks] == [(0.0, 1, 0.0)]
    assert np.isnan(curve.orders[1]).sum() == 1


def test_themed(pictures: Any) -> None:
    drawing = (
        '<?xml version="1.0"?><svg width="10pt" height="20pt"><metadata>when</metadata>'
        '<defs><style type="text/css">*{stroke-linejoin: round}</style></defs><!-- x -->'
        '<g id="unused"><path id="m1" d="M 1.2345 -0.0449 L 2 3 z" style="fill: #0a0b02"/></g>'
        '<use xlink:href="#m1"/><text style="font: bold 8.5px \'A\', serif; fill: #010203">w</text>'
        "</svg>"
    )
    found = pictures.themed(drawing, "my_loss-0", "a title")
    root = ET.fromstring(found)
    assert [x.tag.replace(SVG, "") for x in root.iter()] == [
        "svg",
        "title",
        "g",
        "path",
        "use",
        "text",
    ]
    assert root.get("viewBox") == "0 0 10 20"
    assert 'id="my_loss-0-0" d="M1.2 0L2 3z" style="fill: var(--curve-2)"' in found
    assert 'xlink:href="#my_loss-0-0"' in found
    assert "font-size:8.5px;font-family:inherit;font-weight:bold;fill: currentColor" in found
