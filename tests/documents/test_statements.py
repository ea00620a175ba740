"""What `docs/choose.md` says of losses and no other test holds.

Each test is named in the page beside the statement that it holds.
"""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import jaxloss
from tests.laws.values import EPS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "choose.md"
OURS = "https://github.com/jaxloss/jaxloss/blob/main/"
KINDS = ("First choice", "Leave it", "Usual mistake")

integer_cross_entropy = jaxloss.softmax_cross_entropy_with_integer_labels


# ------------------------------------------------------------------------------------- the page


def statements() -> list[tuple[str, str]]:
    """The section and the text of each item of the page, but for the tree."""
    found = []
    for section in PAGE.read_text().split("\n## ")[2:]:
        title, _, body = section.partition("\n")
        items = re.split(r"\n(?=\* )", "\n" + body)
        found += [(title, item.strip()) for item in items if item.strip().startswith("* **")]
    return found


def links(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\[([^\]]+)\]\(([^)]+)\)", text)


def backed(text: str) -> bool:
    """By a link to a test, an example, a tutorial or a paper, or by a paper's title and year."""
    return bool(links(text)) or bool(re.search(r'"[^"]+",? \(?(1[7-9]|20)\d\d', text))


def test_every_section_says_what_first_when_not_and_what_goes_wrong() -> None:
    kinds: dict[str, set[str]] = {}
    for section, item in statements():
        kind = re.split("[:,.]", item.removeprefix("* **"))[0]
        kinds.setdefault(section, set()).add(kind)
    assert len(kinds) == 14
    assert {section: set(KINDS) - found for section, found in kinds.items()} == {
        section: set() for section in kinds
    }


def test_every_statement_is_backed() -> None:
    assert [item for _, item in statements() if not backed(item)] == []
    assert not backed("* **First choice.** `l1_loss`, because everybody takes it.")


def missing(page: str) -> list[str]:
    """What the links of a page lead to, of this project, that is not there."""
    found = []
    for text, target in links(page):
        path, _, _ = target.partition("#")
        if target.startswith(OURS):
            file = ROOT / path.removeprefix(OURS)
            # Tests and laws are named in words, which wrap on a phone.
            kind, _, words = text.partition(": ")
            name = {"test": "test_", "law": ""}.get(kind, "?") + words.replace(" ", "_")
            if not file.is_file() or (words and f"def {name}(" not in file.read_text()):
                found.append(text)
        elif not target.startswith("https://") and not (PAGE.parent / path).exists():
            found.append(text)
    return found


def test_what_backs_a_statement_is_there() -> None:
    assert missing(PAGE.read_text()) == []
    planted = f"[test: not there]({OURS}tests/documents/test_statements.py)"
    assert missing(f"{planted} [example]({OURS}examples/none.py) [guide](guide/none.md)") == [
        "test: not there",
        "example",
        "guide",
    ]


def test_names_on_the_page_are_public() -> None:
    losses = r"(?<!`)`([a-z_0-9]+_(?:loss|entropy|error|distance|logits))`"
    named = set(re.findall(losses, PAGE.read_text()))
    assert {name for name in named if not hasattr(jaxloss, name)} == set()
    assert len(named) > 60


# ----------------------------------------------------------------------------------- a number


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (jaxloss.huber_loss, {"delta": 1.345}),
        (jaxloss.smooth_l1_loss, {"beta": 1.345}),
        (jaxloss.tukey_biweight_loss, {"c": 4.685}),
    ],
)
def test_the_usual_constants_keep_95_percent_of_the_efficiency(loss, options) -> None:
    """On normal errors: (E psi')^2 / E psi^2, psi the slope, against 1 of the mean."""
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda e: loss(e, 0.0, **options)))
        curve = jax.jit(jax.grad(slope))
        ends = list(options.values())

        def mean(function) -> float:
            # The slopes have corners at the constants.
            values, _ = quad(lambda e: function(e) * norm.pdf(e), 0, 12, points=ends, limit=200)
            return 2 * values

        bend = mean(lambda e: float(curve(e)))
        efficiency = bend**2 / mean(lambda e: float(slope(e)) ** 2)
    # The constants have four digits, so that the efficiency is 95 % to about as many.
    assert efficiency == pytest.approx(0.95, abs=1e-3)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_huber_with_a_delta_far_below_the_errors_is_l1(delta) -> None:
    errors = jnp.array([-80.0, -3.0, 20.0, 400.0])
    slopes = jax.vmap(jax.grad(lambda e: jaxloss.huber_loss(e, 0.0, delta=delta)))(errors)
    np.testing.assert_array_equal(slopes, delta * jnp.sign(errors))


def test_the_percentage_error_favours_low_predictions() -> None:
    """Targets spread evenly in their logarithm around 100: what one number is best for all."""
    targets = jnp.asarray(100 * np.exp(np.linspace(-2, 2, 41)), jnp.float32)
    guesses = jnp.asarray(100 * np.exp(np.linspace(-2, 2, 81)), jnp.float32)

    def best(loss) -> float:
        pairs = jnp.broadcast_arrays(guesses[:, None], targets[None])
        return float(guesses[loss(*pairs).mean(1).argmin()])

    assert best(jaxloss.absolute_percentage_error) < 40
    assert best(jaxloss.squared_logarithmic_error) == pytest.approx(100)


# ------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.9])
def test_a_mean_passed_for_its_logarithm_never_predicts_below_1(mean) -> None:
    """exp(f), given as f by mistake, is exp(exp(f)) > 1 to the loss: f falls for ever."""
    slope = jax.grad(lambda f: jaxloss.poisson_nll_loss(jnp.exp(f), mean))
    raw = jnp.linspace(-4.0, 4.0, 81)
    assert (jax.vmap(slope)(raw) > 0).all()
    # As it is meant, it stops at the logarithm of the mean.
    right = jax.grad(lambda f: jaxloss.poisson_nll_loss(f, mean))(jnp.log(mean))
    assert abs(right) < 1e-6  # a rounding of exp(log(mean)), of at most 1


# ----------------------------------------------------------------------------- a distribution


def test_the_crps_pulls_the_mean_by_at_most_1_and_the_likelihood_without_bound() -> None:
    errors = jnp.array([1.0, 30.0, 1e4, 1e8])
    one = jnp.ones(4)
    crps = jax.grad(lambda e: jaxloss.gaussian_crps(e, jnp.zeros(4), one).sum())(errors)
    likelihood = jax.grad(lambda e: jaxloss.gaussian_nll_loss(e, jnp.zeros(4), one).sum())(errors)
    assert (jnp.abs(crps) <= 1).all()
    np.testing.assert_array_equal(likelihood, errors)


def test_the_likelihood_weighs_an_error_by_one_over_its_variance() -> None:
    """Points of large variance are neglected; `beta_nll_loss` with beta = 1 neglects none."""
    variance = jnp.array([0.01, 1.0, 100.0])
    mean, target = jnp.ones(3), jnp.zeros(3)
    slopes = jax.grad(lambda m: jaxloss.gaussian_nll_loss(m, target, variance).sum())(mean)
    np.testing.assert_allclose(slopes, 1 / variance, rtol=1e-6)
    fair = jax.grad(lambda m: jaxloss.beta_nll_loss(m, target, variance, beta=1.0).sum())(mean)
    np.testing.assert_allclose(fair, jnp.ones(3), rtol=1e-6)


def test_the_gaussian_likelihood_takes_a_variance_and_the_crps_a_deviation() -> None:
    """Targets of deviation 3: the third argument that is best is 9 of the one, 3 of the other."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    targets = jnp.asarray(3 * nodes, jnp.float32)
    weights = jnp.asarray(weights / weights.sum(), jnp.float32)
    spreads = jnp.arange(1.0, 20.0, 0.25)

    def best(loss) -> float:
        score = jax.vmap(lambda s: loss(jnp.zeros(60), targets, s) @ weights)(spreads)
        return float(spreads[score.argmin()])

    assert best(jaxloss.gaussian_nll_loss) == 9.0
    assert best(jaxloss.gaussian_crps) == 3.0


def test_soft_cross_entropy_and_kl_divergence_have_the_same_gradient() -> None:
    logits = jnp.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    targets = jnp.array([[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]])
    one = jax.grad(lambda x: jaxloss.softmax_cross_entropy(x, targets).sum())
    other = jax.grad(lambda x: jaxloss.kl_divergence(jax.nn.log_softmax(x), targets).sum())
    # Both are softmax - targets, numbers below 1.
    np.testing.assert_allclose(one(logits), other(logits), atol=4e-7)


# ----------------------------------------------------------------------------------- one class


def test_a_fused_cross_entropy_holds_no_logits() -> None:
    """Value and gradients are those of the logits, for less than a quarter of their bytes."""
    rng, count, classes = np.random.default_rng(0), 512, 4096
    hidden, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((count, 8), (8, classes))
    )
    labels = jnp.asarray(rng.integers(0, classes, count))

    def whole(hidden, kernel):
        return integer_cross_entropy(hidden @ kernel, labels, reduction="mean")

    def fused(hidden, kernel):
        loss = jaxloss.linear_softmax_cross_entropy
        return loss(hidden, kernel, labels, block_size=64, reduction="mean")

    sizes, found = [], []
    for function in (whole, fused):
        program = jax.jit(jax.value_and_grad(function, (0, 1))).lower(hidden, kernel).compile()
        memory = program.memory_analysis()
        assert memory is not None
        sizes.append(memory.temp_size_in_bytes)
        found.append(program(hidden, kernel))
    assert sizes[1] < count * classes * 4 / 4 < count * classes * 4 <= sizes[0]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        # Sums over the classes, in another order: of a few roundings of the largest.
        largest = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=16 * EPS * largest)


def test_cross_entropy_learns_how_frequent_the_classes_are() -> None:
    counts = jnp.array([6.0, 3.0, 1.0])
    labels = jnp.repeat(jnp.arange(3), counts.astype(int), total_repeat_length=10)
    logits = jnp.log(counts / 10)

    def mean(x: jax.Array) -> jax.Array:
        rows = jnp.broadcast_to(x, (10, 3))
        return integer_cross_entropy(rows, labels, reduction="mean")

    np.testing.assert_allclose(jax.grad(mean)(logits), jnp.zeros(3), atol=1e-7)
    # It is convex, so that there is no other minimum.
    assert (jnp.linalg.eigvalsh(jax.hessian(mean)(logits)) > -1e-7).all()


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_probabilities_passed_for_logits_stay_expensive(classes) -> None:
    """Of C classes no prediction costs less than log(1 + (C - 1) / e)."""
    certain = jax.nn.one_hot(0, classes)
    least = np.log1p((classes - 1) / np.e)
    assert float(integer_cross_entropy(certain, 0)) == pytest.approx(least, rel=1e-6)
    assert integer_cross_entropy(1000 * certain, 0) == 0


# ------------------------------------------------------------------------------ several labels


@pytest.mark.parametrize("true", [2, 3, 5])
def test_a_softmax_gives_each_of_several_true_labels_a_part_only(true) -> None:
    labels = (jnp.arange(8) < true).astype(jnp.float32)
    logits = 30.0 * labels
    slope = jax.grad(lambda x: jaxloss.softmax_cross_entropy(x, labels / true))(logits)
    np.testing.assert_allclose(slope, jnp.zeros(8), atol=1e-7)
    assert float(jax.nn.softmax(logits).max()) == pytest.approx(1 / true, rel=1e-6)
    assert float(jax.nn.sigmoid(logits)[:true].min()) == pytest.approx(1.0)


def test_a_sigmoid_first_loses_what_a_logit_says() -> None:
    """From 17 on a sigmoid is 1 in float32: a wrong and certain answer is inf, without a slope."""
    logit = jnp.float32(20.0)
    through = lambda x: jaxloss.binary_cross_entropy(jax.nn.sigmoid(x), 0)  # noqa: E731
    assert through(logit) == jnp.inf
    assert not jnp.isfinite(jax.grad(through)(logit)) or jax.grad(through)(logit) == 0
    assert float(jaxloss.sigmoid_binary_cross_entropy(logit, 0)) == pytest.approx(20.0)
    assert float(jax.grad(jaxloss.sigmoid_binary_cross_entropy)(logit, 0)) == pytest.approx(1.0)


# -------------------------------------------------------------------------------------- pixels


def test_dice_drives_an_uncertain_pixel_to_a_side_and_cross_entropy_to_its_probability() -> None:
    """Pixels that look alike, 6 of 10 positive: dice is least at certainty, not at 0.6."""
    labels = (jnp.arange(10) < 6).astype(jnp.float32)
    # The shares that 0.6 and other probabilities have of the whole.
    chances = jnp.linspace(0.05, 1.0, 20)
    same = jnp.broadcast_to(chances[:, None], (20, 10))
    rows = jnp.broadcast_to(labels, (20, 10))
    dice = jaxloss.binary_dice_loss(same, rows, smooth=0.0, apply_sigmoid=False)
    likely = jaxloss.binary_cross_entropy(same, rows).mean(-1)
    assert float(chances[dice.argmin()]) == 1.0
    assert float(chances[likely.argmin()]) == pytest.approx(0.6)


def test_a_dice_loss_cannot_tell_how_large_a_missed_region_is() -> None:
    """To miss a region costs 1, whether it has 10 pixels or 1000."""
    for size in (10, 1000):
        labels = (jnp.arange(4000) < size).astype(jnp.float32)[None]
        missed = jnp.full((1, 4000), -100.0)
        assert float(jaxloss.binary_dice_loss(missed, labels, smooth=0.0)[0]) == 1.0
        pixels = jaxloss.sigmoid_binary_cross_entropy(missed, labels).sum()
        assert float(pixels) == pytest.approx(100.0 * size, rel=1e-6)


# --------------------------------------------------------------------------------------- boxes


def test_boxes_apart_train_under_giou_and_not_under_iou() -> None:
    box, target = jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 3.0, 4.0, 4.0])
    np.testing.assert_array_equal(jax.grad(jaxloss.iou_loss)(box, target), jnp.zeros(4))
    assert (jax.grad(jaxloss.giou_loss)(box, target) != 0).any()


def test_giou_of_a_box_inside_another_is_iou_and_diou_still_pulls_the_centre() -> None:
    outer, inner = jnp.array([0.0, 0.0, 8.0, 8.0]), jnp.array([1.0, 1.0, 3.0, 3.0])
    assert float(jaxloss.giou_loss(outer, inner)) == float(jaxloss.iou_loss(outer, inner))

    def moved(loss, shift: jax.Array) -> jax.Array:
        return loss(inner + shift, outer)

    shift = jnp.float32(0.0)
    assert jax.grad(moved, argnums=1)(jaxloss.giou_loss, shift) == 0
    assert jax.grad(moved, argnums=1)(jaxloss.diou_loss, shift) < 0


def test_one_box_format_read_as_another_is_a_plausible_number() -> None:
    """Two squares of side 6, half a pixel apart; read as corners their sides are 4 and 3.5."""
    boxes = jnp.array([2.0, 2.0, 6.0, 6.0]), jnp.array([2.5, 2.0, 6.0, 6.0])
    right = jaxloss.giou_loss(*boxes, box_format="cxcywh")
    wrong = jaxloss.giou_loss(*boxes)
    assert float(right) == pytest.approx(1 - 5.5 / 6.5, rel=1e-6)
    assert float(wrong) == pytest.approx(1 - 3.5 / 4.0, rel=1e-6)


# ------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("mining", ["hard", "semi_hard", "all"])
def test_embeddings_that_collapsed_stay_collapsed_under_triplets(mining) -> None:
    """All equal: each triplet costs the margin, and no slope leads away."""
    same, labels = jnp.ones((6, 3)), jnp.array([0, 0, 1, 1, 2, 2])

    def mean(x: jax.Array) -> jax.Array:
        return jaxloss.batch_triplet_loss(x, labels, mining=mining, margin=0.5, reduction="mean")

    value, slopes = jax.value_and_grad(mean)(same)
    assert value == 0.5
    np.testing.assert_array_equal(slopes, jnp.zeros((6, 3)))


# -------------------------------------------------------------------------------------- orders


def test_labels_of_minus_1_are_documents_until_where_takes_them_out() -> None:
    scores = jnp.array([2.0, 1.0, 0.0, 5.0])
    labels = jnp.array([2.0, 1.0, 0.0, -1.0])
    short = jaxloss.pairwise_logistic_loss(scores[:3], labels[:3])
    padded = jaxloss.pairwise_logistic_loss(scores, labels)
    masked = jaxloss.pairwise_logistic_loss(scores, labels, where=labels >= 0)
    assert float(masked) == pytest.approx(float(short))
    assert padded > 2 * short


def test_the_softmax_loss_bounds_the_reciprocal_rank() -> None:
    """With one relevant document, 1 / rank is at least exp(-loss)."""
    scores = 2 * jax.random.normal(jax.random.key(0), (200, 12))
    relevant = jax.nn.one_hot(jnp.arange(200) % 12, 12)
    losses = jaxloss.ranking_softmax_loss(scores, relevant, reduction="none")
    own = (scores * relevant).sum(1, keepdims=True)
    ranks = (scores >= own).sum(1).astype(jnp.float32)
    assert (1 / ranks >= jnp.exp(-losses)).all()
    assert len(set(ranks.tolist())) > 5


def test_an_offset_costs_regression_and_no_ranking() -> None:
    """The order is right and every score is 10 too high."""
    labels = jnp.array([2.0, 1.0, 0.0])
    scores = 10.0 + labels
    assert (jaxloss.squared_error(scores, labels) == 100).all()
    here = jaxloss.pairwise_logistic_loss(scores, labels)
    assert float(here) == pytest.approx(float(jaxloss.pairwise_logistic_loss(labels, labels)))


# --------------------------------------------------------------------------------- preferences


def _answers() -> tuple[jax.Array, ...]:
    """Logits `[2, 7, 5]` of a model and of its reference, tokens, and which are the answer's.

    Both answers have the same prompt of three tokens, and the same logits for it.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    tokens = jax.random.randint(keys[0], (2, 7), 0, 5)
    tokens = tokens.at[1, :3].set(tokens[0, :3])
    model, reference = (jax.random.normal(key, (2, 7, 5)) for key in keys[1:])
    model = model.at[1, :3].set(model[0, :3])
    reference = reference.at[1, :3].set(reference[0, :3])
    return model, reference, tokens, jnp.arange(7) >= 3


def test_the_prompt_cancels_in_dpo_and_not_in_simpo() -> None:
    model, reference, tokens, answer = _answers()
    answer = jnp.broadcast_to(answer, (2, 7)).at[1, 6].set(False)  # the second is shorter

    def losses(counted: jax.Array) -> tuple[float, float]:
        policy, held = (
            jaxloss.sequence_log_probabilities(x, tokens, where=counted) for x in (model, reference)
        )
        dpo = jaxloss.dpo_loss(policy[0], policy[1], held[0], held[1])
        return float(dpo), float(jaxloss.simpo_loss(policy[0], policy[1], *counted.sum(1)))

    prompt = jnp.broadcast_to(jnp.arange(7) < 3, (2, 7))
    with_prompt = losses(answer | prompt)
    without = losses(answer)
    assert with_prompt[0] == pytest.approx(without[0], rel=1e-6)
    assert abs(with_prompt[1] - without[1]) > 0.01


def test_a_policy_that_is_its_reference_starts_dpo_at_log_2() -> None:
    model, _, tokens, answer = _answers()
    policy = jaxloss.sequence_log_probabilities(model, tokens, where=jnp.stack([answer] * 2))
    loss = jaxloss.dpo_loss(policy[0], policy[1], policy[0], policy[1])
    assert float(loss) == pytest.approx(np.log(2), rel=1e-6)


# ----------------------------------------------------------------------------------- sequences


def test_the_mean_over_tokens_is_not_the_mean_over_sequences() -> None:
    logits = jnp.zeros((2, 4, 3)).at[0, :, 0].set(5.0)
    labels = jnp.array([[0, 0, 0, 0], [1, -1, -1, -1]])
    kept = labels >= 0
    tokens = integer_cross_entropy(logits, labels, where=kept, reduction="mean")
    each = integer_cross_entropy(logits, labels, where=kept)
    sequences = (each.sum(1) / jnp.array([4.0, 1.0])).mean()
    assert float(tokens) == pytest.approx(float(each.sum() / 5), rel=1e-6)
    assert sequences > 2 * tokens


def test_a_label_twice_in_a_row_needs_a_frame_between() -> None:
    """[1, 1] cannot be said in two frames: a blank is to part them."""
    labels, none = jnp.array([[1, 1]]), jnp.zeros((1, 2))
    two = jaxloss.ctc_loss(jnp.zeros((1, 2, 3)), none, labels, none)
    three = jaxloss.ctc_loss(jnp.zeros((1, 3, 3)), jnp.zeros((1, 3)), labels, none)
    assert two[0] == jnp.inf
    # One path of the 27: label, blank, label.
    assert float(three[0]) == pytest.approx(3 * np.log(3), rel=1e-6)
