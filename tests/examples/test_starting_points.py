"""What people copy from: each example is held to what it says, in a few steps."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EPS = float(jnp.finfo(jnp.float32).eps)


def rows(output: str, width: int) -> dict[str, list[float]]:
    """The numbers of a printed table, by what stands in its first `width` columns."""
    return {
        line[:width].strip(): [
            float(x) for x in re.findall(r"-?\d+\.?\d*(?:e[-+]\d+)?", line[width:])
        ]
        for line in output.splitlines()
    }


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def apart(first, second) -> float:
    """How far two gradients are from one another, relative to the second."""
    first, second = flat(first), flat(second)
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


def is_picture(path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_training_steps_of_four_libraries_agree(example, tmp_path, capsys) -> None:
    training, picture = example("training_steps"), tmp_path / "x.png"
    training.main(["--out", str(picture)], steps=6)
    output = capsys.readouterr().out
    table = rows(output, 14)
    assert set(training.LIBRARIES) < set(table)
    first = table["plain JAX"]
    assert first[2] < first[0]
    for name in training.LIBRARIES:
        # Six digits are printed; the sums of 64 pixels are taken in different orders.
        np.testing.assert_allclose(table[name], first, atol=1e-6 + 64 * EPS)
    assert "Four libraries, one loss curve" in output
    assert is_picture(picture)


def test_lost_labels_do_not_count_in_a_training_step(example) -> None:
    training = example("training_steps")
    (images, labels), *_ = training.draw_batches(0, 1)
    known = labels != training.LOST
    assert 0 < known.sum() < len(labels)
    logits = jnp.array(images[:, :10])
    whole = training.objective(logits, labels)
    np.testing.assert_allclose(
        whole, training.objective(logits[known], labels[known]), rtol=64 * EPS
    )


def test_accumulated_gradients_are_those_of_the_whole_batch(example, tmp_path, capsys) -> None:
    accumulate, picture = example("accumulate_gradients"), tmp_path / "x.png"
    accumulate.main(["--out", str(picture), "--parts", "8"], hidden=256)
    output = capsys.readouterr().out
    table = rows(output, 22)
    for name in ("gradient of the scan", "accumulated"):
        # Sums of 1800 digits in another order.
        assert table[name][0] < 16 * EPS
    assert table["mean of means"][0] > 0.01
    # An eighth of the activations, and the gradients themselves.
    assert table["accumulated"][1] < 0.5 * table["whole batch"][1]
    assert table["accumulated"][1] < 0.5 * table["gradient of the scan"][1]
    assert is_picture(picture)


def test_on_a_mesh_means_are_exact(example, tmp_path, capsys) -> None:
    mesh, picture = example("train_on_mesh"), tmp_path / "x.png"
    mesh.main(["--out", str(picture)], steps=3)
    output = capsys.readouterr().out
    table = rows(output, 17)
    assert f"{jax.device_count()} devices; patients that count on each: " in output
    for name in ("jit on a mesh", "shard_map, psum"):
        assert table[name][0] < 16 * EPS
        np.testing.assert_allclose(table[name][1:], table["one device"][1:], atol=1e-6 + 16 * EPS)
    assert table["mean of means"][0] > 0.01
    assert is_picture(picture)


def test_preferences_from_logits(example, tmp_path, capsys) -> None:
    align, picture = example("align_preferences"), tmp_path / "x.png"
    align.main(["--out", str(picture)], sorting=2, steps=4, width=8)
    output = capsys.readouterr().out
    table = rows(output, 6)
    loss, _, margin = table["1"]
    # Before its first step the model is the reference; the signs of the rewards are of rounding.
    assert loss == 0.6931
    assert abs(margin) <= 1e-3
    loss, accuracy, margin = table["4"]
    assert loss < 0.6931
    assert accuracy > 0.5
    assert margin > 0
    assert is_picture(picture)


def test_only_the_answers_count_in_preferences(example) -> None:
    align = example("align_preferences")
    up, down, answering = align.answers_and_masks(np.random.default_rng(0), 20)
    for tokens, counts, other in zip(up, answering, down, strict=True):
        answer = tokens[counts]
        digits = tokens[: len(answer) - 1]
        assert tokens[len(digits)] == align.COLON
        assert [*sorted(digits), align.STOP] == list(answer)
        assert [*sorted(digits)[::-1], align.STOP] == list(other[counts])
    logits = jax.random.normal(jax.random.key(0), (*up.shape, align.VOCABULARY))
    found = align.log_probabilities(lambda tokens: logits, jnp.array(up), jnp.array(answering))
    chances = np.asarray(jax.nn.log_softmax(logits))
    for row in range(len(up)):
        places = np.flatnonzero(answering[row])
        # A token is predicted by the logits at the place before it.
        truth = chances[row, places - 1, up[row, places]].sum()
        np.testing.assert_allclose(found[row], truth, rtol=16 * EPS)


def test_masked_language_model(example, tmp_path, capsys) -> None:
    model, picture = example("masked_language_model"), tmp_path / "x.png"
    model.main(["--out", str(picture)], steps=40, width=16)
    output = capsys.readouterr().out
    table = rows(output, 26)
    entropy, right = table["by those around them"]
    assert entropy < table["by how common they are"][0]
    assert right > table["by how common they are"][1]
    assert is_picture(picture)


def test_only_hidden_letters_count(example) -> None:
    model = example("masked_language_model")
    tokens = jnp.array(model.manual()[1][:8])
    key = jax.random.key(1)
    given, hidden = model.hide(key, tokens)
    assert 0.1 < hidden.mean() < 0.2
    np.testing.assert_array_equal(given, np.where(hidden, model.MASK, tokens))
    logits = jax.random.normal(key, (*tokens.shape, model.VOCABULARY))
    found = model.mean_loss(lambda given: logits, tokens, key)
    losses = -np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits)), np.asarray(tokens)[..., None], -1
    )
    np.testing.assert_allclose(found.value(), losses[..., 0][hidden].mean(), rtol=16 * EPS)
    assert found.weight == hidden.sum()


def test_dice_and_cross_entropy(example, tmp_path, capsys) -> None:
    both, picture = example("dice_and_cross_entropy"), tmp_path / "x.png"
    both.main(["--out", str(picture)], steps=3, hidden=8)
    output = capsys.readouterr().out
    table = rows(output, 16)
    assert set(both.LOSSES) < set(table)
    assert "% are paper" in output
    assert is_picture(picture)


def test_pixels_without_label_change_neither_dice_nor_cross_entropy(example) -> None:
    both = example("dice_and_cross_entropy")
    inputs, labels = both.pictures(np.random.default_rng(0), slice(20))
    known = labels != both.UNKNOWN
    assert 0.02 < (~known).mean() < 0.4
    logits = jax.random.normal(jax.random.key(0), (*inputs.shape, both.CLASSES))
    spoilt = jnp.where(known[..., None], logits, jnp.nan)
    for loss in both.LOSSES.values():
        value, slopes = jax.value_and_grad(loss)(logits, labels, known)
        spoilt_value, spoilt_slopes = jax.value_and_grad(loss)(spoilt, labels, known)
        assert value == spoilt_value
        np.testing.assert_array_equal(slopes, spoilt_slopes)
        assert not np.any(np.asarray(slopes)[~known])
    # Of one half right and one half wrong.
    truth = np.array([[[1, 1, 2, -1]]])
    found = both.overlaps(np.array([[[1, 2, 2, 1]]]), truth)
    np.testing.assert_array_equal(found[:2], [0.5, 0.5])


def test_weights_make_the_study_like_the_world(example, tmp_path, capsys) -> None:
    weigh, picture = example("weigh_samples"), tmp_path / "x.png"
    weigh.main(["--out", str(picture)])
    table = rows(capsys.readouterr().out, 18)
    risk, ill, loss = table["study"]
    # Logistic regression with an offset repeats the share that it learns from, here 73 %, but for
    # those whose measurements leave no doubt.
    assert risk > ill + 15
    weighted_risk, _, weighted_loss = table["study, weighted"]
    assert abs(weighted_risk - ill) < 5
    assert weighted_loss < loss
    assert is_picture(picture)


def test_half_precision(example, tmp_path, capsys) -> None:
    half, picture = example("half_precision"), tmp_path / "x.png"
    half.main(["--out", str(picture)], steps=40)
    table = rows(capsys.readouterr().out, 28)
    assert set(half.WAYS) < set(table)
    assert is_picture(picture)
    margins = np.linspace(0, 16, 33)
    errors = half.errors_of_gradients(margins)
    # Rounded once: half a unit in the last of bfloat16's eight digits.
    assert errors["bfloat16, loss by jaxloss"].max() <= 2.0**-8
    assert (errors["bfloat16, loss by hand"][margins >= 8] == 1).all()


def test_schedules_compile_once_and_find_the_line(example, tmp_path, capsys) -> None:
    schedule, picture = example("schedule_hyperparameters"), tmp_path / "x.png"
    schedule.main(["--out", str(picture), "--starts", "20"])
    table = rows(capsys.readouterr().out, 20)
    for name in schedule.SCHEDULES:
        assert table[name][-1] == 1
    assert table["narrow"][1] > 500
    assert table["wide"][1] > 200
    # The line of least absolute errors on the true targets is off by 49 points.
    assert table["wide to narrow"][1] < 55
    assert is_picture(picture)


def test_robust_curves_are_those_of_optimistix_and_scipy(example, tmp_path, capsys) -> None:
    fit, picture = example("fit_curve"), tmp_path / "x.png"
    fit.main(["--out", str(picture)])
    output = capsys.readouterr().out
    table = rows(output, 32)
    for loss in fit.LOSSES:
        curves = [
            table[f"{loss:<10}{solver}".strip()]
            for solver in ("Levenberg-Marquardt", "Newton from there", "Optimistix", "SciPy")
        ]
        # All but SciPy's differences have a gradient to double precision; six digits are printed.
        np.testing.assert_allclose(curves, [curves[0]] * 4, rtol=1e-7)
    # With squares, from R's `nls(rate ~ Vm * conc / (K + conc))` on the same data.
    off = [float(x) for x in re.findall(r"(\d+\.\d) %", output)]
    assert off[0] > 20
    assert max(off[1:]) < 5
    assert is_picture(picture)
    with jax.enable_x64(True):
        clean = fit.levenberg_marquardt(
            fit.jaxloss.l2_loss,
            lambda curve: fit.errors(curve, fit.AMOUNTS, fit.SPEEDS),
            jnp.array(fit.START),
        )
    # Bates and Watts, 1988, give 212.7 and 0.0641.
    np.testing.assert_allclose(clean, [212.7, 0.0641], rtol=1e-3)


@pytest.mark.parametrize("way", ["1 each", "by hand", "by schedule", "learned"])
def test_several_tasks_are_weighed_as_said(example, way) -> None:
    tasks = example("several_tasks")
    inputs, labels = tasks.patients(0)
    labels[:50, 0] = np.nan
    model = {
        "W1": jnp.ones((8, 4)) / 8,
        "b1": jnp.zeros(4),
        "W2": jnp.ones((4, 3)),
        "b2": jnp.zeros(3),
        "log_variances": jnp.array([1.0, 2.0, 3.0]),
    }
    terms = tasks.task_losses(model, inputs, labels)
    total, given = tasks.jaxloss.combine(terms, **tasks.WAYS[way](150, model))
    progression, sugar, sex = (float(given[task]) for task in tasks.TASKS)
    outputs = np.asarray(tasks.predict(model, inputs))[50:, 0]
    np.testing.assert_allclose(
        progression, np.square(outputs - labels[50:, 0]).mean() / 2, rtol=1e-5
    )
    truth = {
        "1 each": progression + sugar + sex,
        "by hand": progression / 3000 + sugar / 60 + sex,
        "by schedule": progression / 6000 + sugar / 60 + sex,
        "learned": sum(np.exp(-s) * x + s / 2 for s, x in ((1, progression), (2, sugar), (3, sex))),
    }
    np.testing.assert_allclose(total, truth[way], rtol=16 * EPS)


def test_several_tasks(example, tmp_path, capsys) -> None:
    tasks, picture = example("several_tasks"), tmp_path / "x.png"
    tasks.main(["--out", str(picture)], steps=10)
    output = capsys.readouterr().out
    assert set(tasks.WAYS) < set(rows(output, 14))
    assert "Learned deviations " in output
    assert is_picture(picture)


def test_sparse_regression(example, tmp_path, capsys) -> None:
    sparse, picture = example("sparse_regression"), tmp_path / "x.png"
    sparse.main(["--out", str(picture)], steps=300)
    output = capsys.readouterr().out
    table = rows(output, 24)
    assert table["proximal gradient"][1] > 10
    assert table["gradient descent"][1] == table["no penalty"][1] == 0
    assert table["proximal gradient"][2] < table["no penalty"][2]
    assert "Largest difference to scikit-learn" in output
    assert is_picture(picture)


def test_the_index_shows_every_example() -> None:
    """With a small picture, the command and the source."""
    page = (ROOT / "docs" / "examples.md").read_text()
    names = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
    assert sorted(re.findall(r"^`python examples/(\w+)\.py`$", page, re.M)) == names
    assert sorted(re.findall(r"^:img-top: pictures/(\w+)\.png$", page, re.M)) == names
    source = r"^\[Source\]\(https://github\.com/jaxloss/jaxloss/blob/main/examples/(\w+)\.py\)$"
    assert sorted(re.findall(source, page, re.M)) == names
    for name in names:
        size = (ROOT / "docs" / "pictures" / f"{name}.png").stat().st_size
        assert size <= 60_000, name
