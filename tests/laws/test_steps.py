"""Nothing public is half there: one run names every step that a loss lacks."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
from typing import Any

import numpy as np
from mpmath import mp

import jaxloss
from tests.laws import oracle
from tests.laws.accuracy import asks, is_knob
from tests.laws.case import Case, Options
from tests.laws.domains import domains
from tests.laws.public import LOSSES, ROOT, SUBMODULES, TYPES, home, module_of, written
from tests.laws.rows import CASES, ROWS_OF, VARIATIONS
from tests.laws.truths import anchored

# What the laws of losses do not reach, and where it is tested instead.
NO_ROW = {
    "accumulate_value_and_grad": "returns a function: tests/contract/test_accumulate.py",
    "arcface_logits": "returns logits: tests/multiclass/test_margin_logits.py",
    "cached_value_and_grad": "returns a function: tests/contract/test_accumulate.py",
    "categorical_projection": "returns targets: tests/policy/test_targets.py",
    "combine": "adds losses: tests/custom/test_combine.py",
    "cosface_logits": "returns logits: tests/multiclass/test_margin_logits.py",
    "crf_nll_loss": "takes arrays of three shapes: tests/sequences/test_crf.py",
    "ctc_loss": "takes four arrays of three shapes: tests/sequences/test_ctc.py",
    "ctc_loss_with_forward_probs": "returns three arrays: tests/sequences/test_ctc.py",
    "decode_boxes": "returns boxes: tests/boxes/test_values.py",
    "elementwise": "returns a loss: tests/custom/test_elementwise.py",
    "encode_boxes": "returns codes: tests/boxes/test_values.py",
    "group_advantages": "returns advantages: tests/policy/test_advantages.py",
    "hl_gauss": "returns targets: tests/policy/test_targets.py",
    "gumbel_scores": "returns scores: tests/ranking/test_permutations.py",
    "lambda_weights": "returns weights: tests/ranking/test_values.py",
    "linear_distillation_loss": "of four arrays: tests/multiclass/test_linear.py",
    "linear_log_probs": "returns two arrays: tests/multiclass/test_linear.py",
    "linear_softmax_cross_entropy": "of three shapes: tests/multiclass/test_linear.py",
    "linear_token_statistics": "returns three arrays: tests/multiclass/test_linear.py",
    "make_fenchel_young_loss": "returns a loss: tests/multiclass/test_margin.py",
    "multi_hot": "returns labels: tests/binary/test_multilabel.py",
    "ordinal_levels": "returns levels: tests/ordinal/test_values.py",
    "over_axis": "returns a loss: tests/custom/test_over_axis.py",
    "pairwise_distance": "returns a matrix: tests/contrastive/test_pairwise.py",
    "pairwise_similarity": "returns a matrix: tests/contrastive/test_pairwise.py",
    "reduce_tokens": "linear, of one array: tests/policy/test_tokens.py",
    "rnnt_loss": "takes four arrays of three shapes: tests/sequences/test_rnnt.py",
    "sequence_log_odds": "returns scores: tests/preference/test_odds.py",
    "sequence_log_probabilities": "returns scores: tests/preference/test_values.py",
    "smooth_labels": "returns labels: tests/multiclass/test_cross_entropy.py",
    "soft_dtw": "of sequences of two lengths: tests/sequences/test_soft_dtw.py",
    "soft_dtw_divergence": "of sequences of two lengths: tests/sequences/test_soft_dtw.py",
    "soft_dtw_from_costs": "takes one array: tests/sequences/test_soft_dtw.py",
    "two_hot": "returns targets: tests/policy/test_targets.py",
}
# What every loss has, and laws try: masks, weights and reductions; and along another axis.
OF_ALL_LOSSES = {"where", "weights", "reduction", "axis"}
# Options that no row can say, and where they are tested instead.
NO_VALUE = {
    ("cox_partial_likelihood", "strata"): "an array of integers: tests/survival/test_cox.py",
    **{
        ("crf_nll_loss", name): "an array: tests/sequences/test_crf.py"
        for name in ("start_transitions", "end_transitions", "paddings")
    },
    ("ctc_loss", "log_epsilon"): "an oracle has no finite one: tests/sequences/test_ctc.py",
    ("dice_loss", "axis"): "the axes of pixels: tests/segmentation/test_overlap.py",
    (
        "multiclass_generalized_dice_loss",
        "per_image",
    ): "of a batch, of which an oracle takes one: tests/segmentation/test_overlap.py",
    (
        "sigmoid_focal_loss",
        "mean_over",
    ): "of a mean, where oracles take elements: tests/binary/test_logits.py",
    ("quantile_huber_loss", "quantiles"): "an array: tests/policy/test_values.py",
    ("rnnt_loss", "fastemit_lambda"): "not of the loss: tests/sequences/test_rnnt.py",
    **{
        (name, f"{which}_paddings"): "an array: tests/sequences/test_soft_dtw.py"
        for name, both in (
            ("soft_dtw", ("prediction", "target")),
            ("soft_dtw_divergence", ("prediction", "target")),
            ("soft_dtw_from_costs", ("row", "column")),
        )
        for which in both
    },
    ("ranking_softmax_loss", "reduce_fn"): "a function: tests/ranking/test_values.py",
    ("reduce_tokens", "length"): "has no default of use: tests/policy/test_tokens.py",
    (
        "triplet_margin_with_distance_loss",
        "distance_function",
    ): "a function: tests/embedding/test_triplet.py",
    **{
        (name, "axis_name"): "of several devices: tests/contrastive/test_ring.py"
        for name in (
            "clip_loss",
            "info_nce_loss",
            "siglip_loss",
            "supervised_contrastive_loss",
        )
    },
    **{
        (name, "axis_name"): "of several devices: tests/contrastive/test_shard_map.py"
        for name in (
            "barlow_twins_loss",
            "batch_contrastive_loss",
            "batch_triplet_loss",
            "circle_loss",
            "lifted_structure_loss",
            "multi_similarity_loss",
            "n_pairs_loss",
            "ntxent",
            "vicreg_loss",
        )
    },
    **{
        ("lambda_weights", option): "of pairs, or a function: tests/ranking/test_permutations.py"
        for option in ("topn", "normalize", "gain_fn", "discount_fn")
    },
    **{
        (name, option): "lists in one vector: tests/ranking/test_segments.py"
        for option in ("segments", "num_segments", "segment_size")
        for name in (
            "approx_mrr_loss",
            "approx_ndcg_loss",
            "lambda_weights",
            "listmle_loss",
            "listnet_loss",
            "neural_sort_loss",
            "pairwise_hinge_loss",
            "pairwise_logistic_loss",
            "pairwise_mse_loss",
            "poly1_softmax_loss",
            "ranking_softmax_loss",
            "unique_softmax_loss",
        )
    },
    **{
        (name, option): "of references: tests/contrastive/test_references.py"
        for name in (
            "batch_contrastive_loss",
            "batch_triplet_loss",
            "circle_loss",
            "lifted_structure_loss",
            "multi_similarity_loss",
            "ntxent",
            "supervised_contrastive_loss",
        )
        for option in ("reference_where", "own_reference")
    },
    (
        "multiclass_generalized_dice_loss",
        "axis_name",
    ): "of several devices: tests/segmentation/test_sharded.py",
}
# Any numbers, which not every label reads.
FOR_SOME_LABELS = {
    "desirable_weight",
    "margin",
    "neg_margin",
    "pos_margin",
    "undesirable_weight",
}
SECTIONS = ("Args:", "Returns:", "Reference:", "Example:")


@functools.cache
def text_of(path: str) -> str:
    return "\n".join(file.read_text() for file in sorted(ROOT.glob(path)))


def missing(name: str, function: Any) -> list[str]:
    """What a function lacks to be a public loss, each in one line."""
    family = module_of(function).split(".")[1].strip("_")
    lacks = []
    if getattr(jaxloss, name, None) is not function:
        lacks.append("a line in jaxloss/__init__.py")
    if name not in NO_ROW:
        if name not in {case.name for case in CASES}:
            lacks.append(f"a row in tests/{family}/cases.py")
        if name not in oracle.LOSSES:
            lacks.append(f"an exact form in tests/{family}/oracles.py")
    tests = text_of(f"tests/{family}/test_*.py")
    if name in NO_ROW:
        tests += text_of(NO_ROW[name].split(": ")[1])
    if not re.search(rf"\(\s*{name},|\b{name}\(", tests):
        lacks.append(f"values in tests/{family}/")
    # What makes a function of a formula, of losses, or of a function of one's own takes what those
    # take.
    formats = () if family in ("contract", "custom") else ("docs/guide/inputs.md",)
    for document in ("README.md", "CHANGELOG.md", *formats):
        if f"`{name}`" not in text_of(document):
            lacks.append(f"a mention in {document}")
    return lacks + untried(name, function) + undocumented(function)


def untried(name: str, function: Any) -> list[str]:
    """The options that are nowhere tried at a number of their own, each in one line.

    In a row of the accuracy law such a number has to move the exact value. Of a function without a
    row, and of an option in `NO_VALUE`, a test in the named file has to give another than the
    default.
    """
    cases = [case for rows in ROWS_OF.values() for case in rows if case.name == name]
    lacks = []
    for place, option in enumerate(inspect.signature(function).parameters.values()):
        data = any(option.name in case.names for case in cases) or (
            option.default is option.empty and not cases
        )
        if data or option.name in OF_ALL_LOSSES:
            continue
        reason = NO_VALUE.get((name, option.name), "" if cases else NO_ROW.get(name, ""))
        if reason:
            file = reason.split(": ")[1]
            if not given_in(text_of(file), name, option, place):
                lacks.append(f"its option {option.name} in {file}")
        elif not any(tells(case, option) for case in cases):
            lacks.append(f"its option {option.name} at a number that tells, in a row")
    return lacks


def tells(case: Case, option: inspect.Parameter) -> bool:
    """Whether a number that a row gives the option moves the oracle's value at some point."""
    asked = [ask for ask in asks(case) if ask.wrt is None and option.name in ask.options]
    for ask in asked:
        other: Options = {**ask.options, option.name: option.default}
        if option.default is option.empty:
            # It has to be given: two numbers of the row.
            other = asked[0].options
        for row in ask.rows[:24]:
            one, two = (exactly(case, row, options) for options in (ask.options, other))
            if abs(one - two) > 1e-6 * abs(one):
                return True
    return False


def exactly(case: Case, row: Any, options: Options) -> float:
    """The sum of the exact values at a point of a row; NaN where there is none."""
    places = [(i,) for i in range(len(row[0]))] if case.batch else [()]
    calls = [x for place in places for x in anchored(case, row, options, None, place)[0]]
    try:
        return float(mp.fsum(oracle.value(case.name, row, given)[0] for given in calls))
    except (ZeroDivisionError, ValueError):
        return np.nan


def given_in(text: str, name: str, option: inspect.Parameter, place: int) -> bool:
    """Whether tests that name the function give the option another value than its default.

    By keyword in any call, in a table of options, or at its place in a call of the function.
    """
    values: list[ast.expr] = []
    named = False
    for node in ast.walk(ast.parse(text)):
        named = named or name in (getattr(node, "id", ""), getattr(node, "attr", ""))
        if isinstance(node, ast.Call):
            values += [x.value for x in node.keywords if x.arg == option.name]
            if name in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                values += node.args[place : place + 1]
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values += [v for k, v in pairs if getattr(k, "value", None) == option.name]
    return named and not all(is_default(value, option) for value in values)


def is_default(value: ast.expr, option: inspect.Parameter) -> bool:
    try:
        return ast.literal_eval(value) == option.default
    except ValueError:
        return False


def undocumented(function: Any) -> list[str]:
    text = inspect.getdoc(function) or ""
    places = [text.find(f"\n{section}\n") for section in SECTIONS]
    lacks = [
        f"the section {section} of its docstring"
        for section, place in zip(SECTIONS, places, strict=True)
        if place < 0
    ]
    if lacks:
        return lacks
    if places != sorted(places):
        lacks.append(f"the order {', '.join(SECTIONS)} in its docstring")
    if ">>>" not in text[places[3] :]:
        lacks.append("an example that runs in its docstring")
    arguments = text[places[0] : places[1]]
    for parameter in inspect.signature(function).parameters:
        if not re.search(rf"^    (.*, )?{parameter}(, .*)?:", arguments, re.M):
            lacks.append(f"its parameter {parameter} in its docstring")
    return lacks


def test_no_step_is_missing() -> None:
    """For what is exported, and for what is written and is not."""
    public = {name: getattr(jaxloss, name) for name in LOSSES}
    # optax has two names for some losses.
    own = {name: value for name, value in public.items() if value.__name__ == name}
    assert all(value.__name__ in own for value in public.values())
    losses = {name: x for name, x in written().items() if name != "reduce"} | own
    assert len(losses) > 100
    lacks = [f"{name}: {step}" for name, x in losses.items() for step in missing(name, x)]
    assert not lacks, "\n".join(["steps are missing:", *lacks])


def test_an_option_that_is_tried_nowhere_is_noticed() -> None:
    huber = next(case for case in CASES if case.name == "huber_loss")
    delta = inspect.signature(huber.loss).parameters["delta"]
    assert tells(huber, delta)
    # What is the default, or changes nothing.
    assert not tells(dataclasses.replace(huber, options={"delta": 1.0}, variants=()), delta)

    def huber_loss(predictions: Any, targets: Any, *, delta: float = 1.0, new: float = 0.0) -> Any:
        raise NotImplementedError

    assert untried("huber_loss", huber_loss) == ["its option new at a number that tells, in a row"]
    blank = inspect.signature(jaxloss.ctc_loss).parameters["blank_id"]
    for call, other in (
        ("ctc_loss(*data)", False),
        ("ctc_loss(*data, blank_id=0)", False),
        ("ctc_loss(*data, blank_id=1)", True),
        ("jaxloss.ctc_loss(a, b, c, d, 1)", True),
        ("run(ctc_loss, {'blank_id': 1})", True),
        ("run(other_loss, {'blank_id': 1})", False),
    ):
        assert given_in(call, "ctc_loss", blank, 4) == other


def test_numbers_have_a_domain() -> None:
    """Each option that a row gives a number stands in `domains.py`."""
    for case in [*CASES, *VARIATIONS]:
        options = [*case.options.items(), *(x for more in case.variants for x in more.items())]
        numbers = {name for name, value in options if is_knob(value)}
        assert numbers - domains(case).keys() <= FOR_SOME_LABELS, case.name


def test_every_missing_step_is_named_at_once() -> None:
    def new_loss(predictions: Any, targets: Any) -> Any:
        """A loss."""

    new_loss.__globals__["__name__"], name = "jaxloss._regression.new", __name__
    try:
        lacks = missing("new_loss", new_loss)
    finally:
        new_loss.__globals__["__name__"] = name
    for step in (
        "a line in jaxloss/__init__.py",
        "a row in tests/regression/cases.py",
        "an exact form in tests/regression/oracles.py",
        "values in tests/regression/",
        "a mention in README.md",
        "a mention in CHANGELOG.md",
        "a mention in docs/guide/inputs.md",
        *(f"the section {section} of its docstring" for section in SECTIONS),
    ):
        assert step in lacks
    documented = jaxloss.huber_loss.__doc__ or ""
    new_loss.__doc__ = documented.replace(">>>", "").replace("predictions: Any", "p: Any")
    assert undocumented(new_loss) == [
        "an example that runs in its docstring",
        "its parameter predictions in its docstring",
    ]


def test_a_loss_that_is_not_exported_is_noticed() -> None:
    """The search for written losses finds every exported one by itself."""
    own = {name for name in LOSSES if getattr(jaxloss, name).__name__ == name}
    assert own <= written().keys()


def test_reasons_are_of_losses() -> None:
    assert set(NO_ROW) <= set(LOSSES)
    for reason in NO_ROW.values():
        assert (ROOT / reason.split(": ")[1]).exists()


def test_one_public_path() -> None:
    """`jaxloss.<name>`, which functions, classes and pickles name; nothing else is public."""
    public = {name for name in vars(jaxloss) if not name.startswith("_")} - SUBMODULES
    assert public == {*LOSSES, "reduce", *TYPES}
    for name in (*LOSSES, "reduce", "Mean"):
        assert getattr(jaxloss, name).__module__ == "jaxloss"
    assert home("giou_loss") == "boxes"


def test_chapters_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "jaxloss").rglob("*.py")
    }
    # All that is done for compilers is in one room.
    del lengths["jaxloss/_numerics/xla.py"]
    assert not {path: length for path, length in lengths.items() if length > 420}
