"""The examples run, refuse what they cannot do, and say what their numbers show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))


# Starts the scripts one after another as `python` does, all from the folder of the first.
RUN_ALL = """
import contextlib, io, json, runpy, sys
sys.path[0] = sys.argv[1].rpartition("/")[0]
printed = []
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            printed.append((end.code or 0, output.getvalue()))
print(json.dumps(printed))
"""


def test_run_as_scripts(tmp_path: Path) -> None:
    """In one process: to start JAX for each takes three seconds."""
    scripts = [ROOT / "examples" / f"{name}.py" for name in NAMES]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_ALL, *scripts],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    for script, (code, output) in zip(scripts, json.loads(run.stdout), strict=True):
        assert code == 0
        assert f"usage: {script.name}" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("robust_regression", ["--corupt", "0.1"], "unrecognized arguments: --corupt"),
        ("robust_regression", ["--corr", "0.1"], "unrecognized arguments: --corr"),
        ("robust_regression", ["--corrupt", "0.9"], "--corrupt: must be between 0.0 and 0.5"),
        ("robust_regression", ["--corrupt", "-0.1"], "--corrupt: must be between 0.0 and 0.5"),
        ("robust_regression", ["--corrupt", "nan"], "--corrupt: must be between 0.0 and 0.5"),
        ("robust_regression", ["--corrupt", "much"], "--corrupt: invalid number value: 'much'"),
        ("robust_regression", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("robust_regression", ["--seed", "1.5"], "--seed: invalid number value: '1.5'"),
        ("robust_regression", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("robust_regression", ["--out", "a_folder.png"], "--out: cannot write 'a_folder.png'"),
        ("robust_regression", ["--out", "a_folder.txt"], "--out: 'a_folder.txt' must end in"),
        ("l1_convergence", ["--seed", "1"], "unrecognized arguments: --seed 1"),
        ("l1_convergence", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("batch_evaluation", ["--models", "0"], "--models: must be between 1 and"),
        ("batch_evaluation", ["--out", "a_folder.txt"], "--out: 'a_folder.txt' must end in"),
        ("classify_digits", ["--noise", "0.9"], "--noise: must be between 0.0 and 0.8"),
        ("classify_digits", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("segment_image", ["--noise", "-1"], "--noise: must be between 0.0 and 0.5"),
        ("segment_image", ["--out", "a_folder.txt"], "--out: 'a_folder.txt' must end in"),
        ("metric_learning", ["--light", "-1"], "--light: must be between 0.0 and 5.0"),
        ("metric_learning", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("transduce", ["--haste", "2"], "--haste: must be between 0.0 and 1.0"),
        ("transduce", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("rank_documents", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("rank_documents", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("policy_gradient", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("policy_gradient", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("forecast_ensemble", ["--members", "1"], "--members: must be between 2 and"),
        ("forecast_ensemble", ["--out", "a_folder.txt"], "--out: 'a_folder.txt' must end in"),
        ("survive", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("survive", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("box_regression", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("box_regression", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("training_steps", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("training_steps", ["--steps", "5"], "unrecognized arguments: --steps 5"),
        ("accumulate_gradients", ["--parts", "1"], "--parts: must be between 2 and"),
        ("train_on_mesh", ["--out", "a_folder.txt"], "--out: 'a_folder.txt' must end in"),
        ("align_preferences", ["--seed", "x"], "--seed: invalid number value: 'x'"),
        ("masked_language_model", ["--out", "a_file/x.png"], "--out: cannot write 'a_file/x.png'"),
        ("train_language_model", ["--vocabulary", "255"], "--vocabulary: must be between 256 and"),
        ("train_language_model", ["--mesh", "2"], "--mesh: must be two numbers such as 2,4, got"),
        ("train_language_model", ["--mesh", "9,1"], "--mesh: there are "),
        ("train_language_model", ["--mesh", "1,3"], "--mesh: 3 devices do not divide 4 heads"),
        ("train_language_model", ["--mesh", "1,1", "--rows", "3"], "--rows: 3 do not split into 2"),
        ("train_language_model", ["--checkpoint", "a_file/x"], "--checkpoint: cannot write 'a_f"),
        (
            "train_language_model",
            ["--cluster", "a:1,2,2"],
            "--cluster: must be host:port,processes",
        ),
        (
            "train_language_model",
            ["--mesh", "3,1", "--processes", "2"],
            "--mesh: 3 devices do not divide by 2 processes",
        ),
        ("dice_and_cross_entropy", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("several_tasks", ["--seed", "-1"], "--seed: must be between 0 and"),
        ("weigh_samples", ["--kept", "0"], "--kept: must be between 0.05 and 1.0"),
        ("half_precision", ["--out", "a_folder.png"], "--out: cannot write 'a_folder.png'"),
        ("schedule_hyperparameters", ["--starts", "0"], "--starts: must be between 1 and"),
        ("fit_curve", ["--seed", "1"], "unrecognized arguments: --seed 1"),
    ],
)
def test_refuses_in_one_line_before_working(
    example, name, arguments, message, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refusal:
        example(name).main(arguments)
    output = capsys.readouterr()
    assert refusal.value.code == 2
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_picture_path_makes_the_folder_and_leaves_files_alone(example, tmp_path) -> None:
    picture_path = example("_common").picture_path
    fresh, present = tmp_path / "new" / "folder" / "x.png", tmp_path / "y.png"
    present.write_bytes(b"as it was")
    assert picture_path(str(fresh)) == fresh
    assert picture_path(str(present)) == present
    assert fresh.parent.is_dir()
    assert not fresh.exists()
    assert present.read_bytes() == b"as it was"


def test_robust_regression(example, tmp_path, capsys) -> None:
    demo, picture = example("robust_regression"), tmp_path / "new" / "x.png"
    demo.main(["--out", str(picture), "--seed", "1", "--corrupt", "0.25"], splits=1, epochs=200)
    output = capsys.readouterr()
    rows = {line[:15].strip(): line[15:] for line in output.out.splitlines()}
    assert set(demo.LOSSES) < set(rows)
    assert "83 of 332 training targets" in output.out
    for claim in ("L2 suffers", "\nL1 holds", "; Smooth L1 holds"):
        assert claim in output.out
    # The sentence and the table give the same figures.
    clean, corrupted = (rows["L2"].split()[column] for column in (0, 6))
    assert f"L2 suffers ({clean} to {corrupted} points" in output.out
    assert "1000/1000" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_verdict_follows_the_numbers(example) -> None:
    verdict = example("robust_regression").verdict
    usual = {"L1": (45.0, 47.0), "L2": (44.0, 188.0), "Smooth L1": (45.0, 50.0)}
    assert verdict(usual, 0.2) == (
        "Test MAE with 66 of 332 training targets ten times too large: "
        "L2 suffers (44.0 to 188.0 points, +327 %);\n"
        "L1 holds (45.0 to 47.0 points, +4 %); Smooth L1 holds (45.0 to 50.0 points, +11 %)."
    )
    reversed_ = {"L1": (45.0, 90.0), "L2": (44.0, 44.0), "Smooth L1": (45.0, float("nan"))}
    text = verdict(reversed_, 0.2)
    for claim in ("L2 holds", "\nL1 suffers", "; Smooth L1 suffers"):
        assert claim in text


def test_only_training_targets_are_corrupted(example) -> None:
    demo = example("robust_regression")
    points = [
        [demo.UNIT * (targets - targets.min()) for targets in (problem[1], problem[3])]
        for problem in (demo.problem(7, 0.0), demo.problem(7, 0.25))
    ]
    (clean_train, clean_test), (train, test) = points
    np.testing.assert_allclose(test, clean_test, atol=0.01)
    assert (np.abs(train - clean_train) > 100).sum() == 83
    inputs = demo.problem(7, 0.25)[0]
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.std(0), 1, atol=1e-5)


def test_l1_convergence(example, tmp_path, capsys) -> None:
    convergence, picture = example("l1_convergence"), tmp_path / "x.png"
    convergence.main(["--out", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = {line[:26].strip(): line[26:].split() for line in capsys.readouterr().out.splitlines()}
    swings = {name: np.array(rows[name], float) for name in convergence.RUNS}
    steps = np.array(convergence.STEPS)
    np.testing.assert_allclose(swings["L1, constant step"], steps, atol=2e-5)
    assert (swings["L1, decaying step"] < 0.15 * steps).all()
    assert (swings["Smooth L1, constant step"] < 1e-3 * steps).all()


def test_batch_evaluation(example, tmp_path, capsys) -> None:
    evaluation, picture = example("batch_evaluation"), tmp_path / "x.png"
    evaluation.main(["--out", str(picture), "--models", "3"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "mean of means 5.0" in output
    assert "jaxloss.Mean  3.0" in output

    _, inputs, targets = evaluation.clinics(missing=0.1, seed=0)
    known = np.isfinite(targets)
    assert 0.85 < known.sum() / 442 < 0.95
    model = jnp.linspace(-20, 20, 11)
    total, batches = evaluation.evaluate(model, inputs, targets)
    truth = np.abs(np.asarray(inputs)[known] @ np.asarray(model) - np.asarray(targets)[known])
    np.testing.assert_allclose(total.value(), truth.mean(), rtol=1e-5)
    np.testing.assert_allclose(batches.weight, known.sum(1))
    assert abs(batches.value().mean() / truth.mean() - 1) > 0.01
    each = jax.vmap(evaluation.error, in_axes=(None, 0, 0))(model, inputs[known], targets[known])
    np.testing.assert_allclose(each.value(), truth, rtol=1e-4)


def test_classify_digits(example, tmp_path, capsys, monkeypatch) -> None:
    digits, picture = example("classify_digits"), tmp_path / "x.png"
    monkeypatch.setattr(digits, "BATCH", 128)
    smaller = {"splits": 1, "epochs": 60, "hidden": 128, "levels": [0.0]}
    digits.main(["--out", str(picture), "--noise", "0.5"], **smaller)
    output = capsys.readouterr()
    rows = {line[:22].strip(): line[22:].split() for line in output.out.splitlines()}
    assert set(digits.LOSSES) < set(rows)
    # Each cell is a mean, a sign and a deviation; the chosen level comes last.
    accuracy = {name: [float(x) for x in rows[name][0:-1:3]] for name in digits.LOSSES}
    for clean, *_ in accuracy.values():
        assert clean > 94
    assert accuracy["Generalized CE"][-1] > accuracy["Cross-entropy"][-1] + 2
    learnt = {name: float(rows[name][-1]) for name in digits.LOSSES}
    assert learnt["Generalized CE"] < learnt["Cross-entropy"]
    assert "with 50 % of the training labels wrong" in output.out
    assert "Class weights raise the balanced accuracy" in output.out
    assert "360/360" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_only_training_labels_are_wrong(example) -> None:
    digits = example("classify_digits")
    problem = digits.mislabelled(3, 0.4)
    clean = digits.mislabelled(3, 0.0)
    assert (problem.given != problem.labels).sum() == round(0.4 * len(problem.labels))
    np.testing.assert_array_equal(clean.given, clean.labels)
    np.testing.assert_array_equal(problem.test_labels, clean.test_labels)
    few = digits.imbalanced(3)
    for digit in digits.RARE:
        assert (few.given == digit).sum() == digits.KEPT
    weights = digits.balancing([few])
    counts = np.bincount(few.given[few.given >= 0])
    np.testing.assert_allclose(weights * counts, counts.sum() / 10, rtol=1e-6)


def test_segment_image(example, tmp_path, capsys) -> None:
    segment, picture = example("segment_image"), tmp_path / "x.png"
    segment.main(["--out", str(picture)], steps=20, channels=4)
    output = capsys.readouterr()
    scores = {line[:26].strip(): line[26:].split() for line in output.out.splitlines()}
    unseen = {
        name: float(scores[name][1]) for name in ("untrained", "threshold of brightness", "trained")
    }
    assert unseen["trained"] > max(0.8, *(unseen[name] for name in list(unseen)[:2]))
    assert "Training raises the IoU on the unseen half" in output.out
    assert "20/20" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_overlap_leaves_unknown_pixels_out(example) -> None:
    overlap = example("segment_image").overlap
    flower = np.array([True, True, False, True])
    assert overlap(flower, np.array([1, 0, 1, -1])) == 1 / 3
    assert overlap(flower, np.array([0, 0, 0, 0])) == 0


def test_metric_learning(example, tmp_path, capsys) -> None:
    learning, picture = example("metric_learning"), tmp_path / "x.png"
    learning.main(["--out", str(picture)], splits=1, epochs=10, hidden=64)
    output = capsys.readouterr()
    rows = {line[:26].strip(): line[26:].split() for line in output.out.splitlines()}
    recall = {name: float(rows[name][0]) for name in (learning.PIXELS, *learning.OBJECTIVES)}
    for name in learning.OBJECTIVES:
        assert recall[name] > recall[learning.PIXELS] + 5
    assert "Best on digits never seen" in output.out
    assert "30/30" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_transduce(example, tmp_path, capsys) -> None:
    transduce, picture = example("transduce"), tmp_path / "x.png"
    transduce.main(["--out", str(picture)], count=64, tested=8, epochs=1)
    output = capsys.readouterr()
    assert all(f"\n{name}  " in output.out for name in transduce.LOOKS)
    assert "Fewest wrong: " in output.out
    assert "3/3" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_was_said_is_scored(example) -> None:
    transduce = example("transduce")
    assert transduce.edits([], [1, 2]) == 2
    assert transduce.edits([1, 3, 2], [1, 2]) == 1
    assert transduce.edits([2, 1], [1, 2]) == 2
    assert transduce.edits([4, 4], [4, 4]) == 0
    said = np.zeros((2, 4, 2), int)
    said[0, 1, 0], said[0, 2] = 5, (6, 7)  # All right, 0, 1 and 0 columns late.
    said[1, 0, 0], said[1, 3, 0] = 5, 9  # One left out; the last frame is padded.
    data = transduce.Strips(
        ink=np.zeros((2, 8, 8)),
        symbols=np.array([[5, 6, 7], [5, 6, 7]]),
        ends=np.array([[4, 5, 6], [2, 4, 6]]),
        late=np.array([[0, 0, 0, 0], [0, 0, 0, 1]]),
        spare=np.array([[0, 0, 0], [0, 0, 1]]),
    )
    found = transduce.score(said, data)
    np.testing.assert_allclose(found, (100 * 1 / 5, 1 / 3))


def test_verdict_on_haste(example) -> None:
    transduce = example("transduce")
    names, score = (transduce.CTC, transduce.RNNT, transduce.EARLY), transduce.Score
    found = dict(zip(names, (score(9.0, 1.0), score(4.0, 3.0), score(5.0, 1.5)), strict=True))
    text = transduce.verdict(found)
    assert text.startswith("Fewest wrong: RNN-T, 4.0 % of the digits.")
    assert "1.5 columns earlier, 5.0 % wrong for 4.0 %" in text
    found[transduce.EARLY] = score(5.0, 3.5)
    assert "0.5 columns later" in transduce.verdict(found)


def test_unseen_digits_are_not_learnt_from(example) -> None:
    learning = example("metric_learning")
    dark, lit = learning.split(5, 0.0), learning.split(5, 1.0)
    kinds = {x.tobytes() for x in dark.inputs} & {x.tobytes() for x in dark.unseen_inputs}
    assert not kinds
    assert len(set(dark.unseen_labels.tolist())) == learning.UNSEEN
    np.testing.assert_array_equal(lit.inputs, dark.inputs)
    # The light is flat or a ramp.
    light = (lit.unseen_inputs - dark.unseen_inputs).reshape(-1, 8, 8)
    for axis in (1, 2):
        np.testing.assert_allclose(np.diff(light, 2, axis), 0, atol=1e-6)


def test_recall_and_its_verdict(example) -> None:
    learning = example("metric_learning")
    angles = jnp.array([0.0, 0.1, 1.0, 1.15, 3.0])
    points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)
    assert learning.recall(points, jnp.array([0, 0, 1, 2, 2])) == jnp.float32(3 / 5)
    scores = {"Pixels": np.array([0.5, 0.7]), "ArcFace": np.array([0.8, 0.9])}
    text = "Best on digits never seen: ArcFace, 85.0 %; the pixels as they are, 60.0 %."
    assert learning.verdict(scores) == text
    assert learning.verdict({"Pixels": scores["ArcFace"], "ArcFace": scores["Pixels"]}) == (
        "No loss beats the pixels (85.0 %)."
    )


def test_rank_documents(example, tmp_path, capsys) -> None:
    rank, picture = example("rank_documents"), tmp_path / "x.png"
    rank.main(["--out", str(picture)], splits=2, rounds=6)
    output = capsys.readouterr()
    rows = {line[:16].strip(): line[16:].split() for line in output.out.splitlines()}
    assert set(rank.LOSSES) < set(rows)
    chance = float(rows["chance"][0])
    assert chance < 45
    for name in rank.LOSSES:
        assert float(rows[name][0]) > chance + 25
    assert "NDCG@10 on unseen patients: " in output.out
    assert "24/24" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_policy_gradient(example, tmp_path, capsys, monkeypatch) -> None:
    policy, picture = example("policy_gradient"), tmp_path / "x.png"
    monkeypatch.setattr(policy, "RULES", {k: v._replace(passes=2) for k, v in policy.RULES.items()})
    policy.main(["--out", str(picture)], policies=2, rollouts=2)
    output = capsys.readouterr()
    rows = {line[:24].strip(): line[24:].split() for line in output.out.splitlines()}
    assert set(policy.RULES) < set(rows)
    assert all(0 <= float(rows[name][0]) <= policy.LONGEST for name in policy.RULES)
    assert "Steps balanced, of 500: " in output.out
    assert "6/6" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_verdict_on_policies_is_of_the_numbers(example) -> None:
    policy = example("policy_gradient")
    lengths = dict(zip(policy.RULES, (400.0, 100.0, 200.0), strict=True))
    moves = dict(zip(policy.RULES, (0.01, 0.25, 0.001), strict=True))
    results = {
        name: policy.Results(np.full((5, 2), lengths[name]), np.full((5, 2), moves[name]))
        for name in policy.RULES
    }
    found = policy.verdict(results)
    assert "10 clipped passes 400, 1 free pass 200, 10 free passes 100; " in found
    assert found.endswith("moved a policy 25.0x as far")


def test_an_episode_that_is_cut_off_has_a_future(example) -> None:
    """Advantages by hand: of three steps, after the second of which an episode is over."""
    policy = example("policy_gradient")
    value, later = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [5.0], [4.0]])
    for fell in (True, False):
        trials = policy.Trials(
            None, None, None, value, later, np.array([[False], [fell], [False]]),
            np.array([[False], [True], [False]]),
        )  # fmt: skip
        surprise = 1 + 0.99 * later[:, 0] - value[:, 0]
        surprise[1] = 1 + 0.99 * 5 * (not fell) - 2
        expected = [surprise[0] + 0.99 * 0.95 * surprise[1], surprise[1], surprise[2]]
        np.testing.assert_allclose(policy.advantages(trials)[:, 0], expected, rtol=1e-6)
    # Pushed to the right, a cart moves to the right, and its pole falls to the left.
    state = policy.push(jnp.zeros((1, 4)), jnp.ones(1, int))
    assert state[0, 1] > 0 > state[0, 3]
    assert not policy.has_fallen(state)[0]


def test_no_clinic_has_a_patient_twice(example) -> None:
    rank = example("rank_documents")
    days = rank.clinics(0, 50, 100)
    assert all(len(set(row)) == rank.LONGEST for row in days.patients)
    sizes = days.there.sum(-1)
    assert sizes.min() >= rank.SHORTEST
    assert sizes.max() <= rank.LONGEST
    # The best order has NDCG 1.
    grades = np.arange(100.0) % rank.GRADES
    ndcg, placed = rank.judge(grades + np.arange(100) * 1e-3, grades, days.patients)
    assert ndcg == pytest.approx(1)
    assert np.all(np.diff(placed) <= 0)


def test_forecast_ensemble(example, tmp_path, capsys) -> None:
    forecast, picture = example("forecast_ensemble"), tmp_path / "x.png"
    forecast.main(["--out", str(picture)], splits=2, steps=50)
    output = capsys.readouterr()
    rows = {line[:16].strip(): line[16:].split() for line in output.out.splitlines()}
    assert set(forecast.OBJECTIVES) < set(rows)
    crps, _, _, held, _ = zip(*(rows[name] for name in forecast.OBJECTIVES), strict=True)
    # In deviations of the targets: less than the forecast of a standard normal distribution.
    assert float(crps[0]) < 0.56
    # Fair, biased, squared error: narrower and narrower.
    assert float(held[0]) > float(held[1]) + 10 > float(held[2]) + 10
    assert f"Intervals of 80 % hold: Fair CRPS {float(held[0]):.0f} %" in output.out
    assert "40/40" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_forecasts_are_judged_as_they_are(example) -> None:
    forecast = example("forecast_ensemble")
    random = np.random.default_rng(0)
    members = jnp.asarray(random.normal(size=(4000, forecast.JUDGED)), jnp.float32)
    targets = jnp.asarray(random.normal(size=4000), jnp.float32)
    scores = forecast.judge(members, targets)
    # Of a standard normal forecast the mean score is 1 / sqrt(pi).
    assert float(scores.crps) == pytest.approx(np.pi**-0.5, abs=0.03)
    np.testing.assert_allclose(scores.held, forecast.LEVELS, atol=0.04)
    best = {"Fair CRPS": scores._replace(crps=np.array([0.4]), held=0.8 * np.ones((1, 9)))}
    assert forecast.verdict(best) == (
        "Least CRPS on unseen patients: Fair CRPS, 0.400. Intervals of 80 % hold: Fair CRPS 80 %."
    )


def test_survive(example, tmp_path, capsys) -> None:
    survive, picture = example("survive"), tmp_path / "x.png"
    survive.main(["--out", str(picture)], networks=2, rounds=4)
    output = capsys.readouterr()
    rows = {line[:24].strip(): line[24:].split() for line in output.out.splitlines()}
    for name in survive.MODELS:
        assert 40 < float(rows[name][3]) < 70
    assert "train: 1163 purchases, 44 % lose a fifth" in output.out
    assert f"({rows['variation of a year'][0]} %)." in output.out
    assert "8/8" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_times_until_a_loss(example) -> None:
    survive = example("survive")
    assert survive.until_loss(np.array([10.0, 9.0, 7.9, 20.0])) == (2, True)
    assert survive.until_loss(np.array([10.0, 9.0, 8.1])) == (2, False)
    assert survive.until_loss(np.append(np.full(80, 10.0), 1.0)) == (survive.HORIZON, False)
    times, events = np.array([1, 3, 4, 60, 1, 3, 7]), np.array([1, 1, 1, 1, 0, 0, 0], bool)
    assert list(survive.quarters(times, events)) == [0, 0, 1, 19, -1, 0, 1]
    risk = np.array([3.0, 2.0, 1.0])
    assert survive.concordance(risk, np.arange(3), np.array([True, True, False])) == 1
    assert survive.concordance(-risk, np.arange(3), np.array([True, False, False])) == 0
    left = survive.kaplan_meier(np.array([1, 2, 2, 3]), np.array([True, True, False, False]))
    assert left[:3] == pytest.approx([1, 3 / 4, 3 / 4 * 2 / 3])
    text = "Of the networks Cox tells best who loses first, in 60.0 % of pairs"
    assert survive.verdict({"Cox": 0.6, "x": 0.5}, 0.55).startswith(f"{text}: more than")
    assert survive.verdict({"Cox": 0.6, "x": 0.5}, 0.65).startswith(f"{text}: no more than")


def test_box_regression(example, tmp_path, capsys) -> None:
    regression, picture = example("box_regression"), tmp_path / "x.png"
    regression.main(["--out", str(picture)], epochs=4, channels=8)
    output = capsys.readouterr()
    rows = {line[:20].strip(): line[20:].split() for line in output.out.splitlines()}
    assert "1347 digits to learn from, in 4 scenes each; 450 others to test" in output.out
    for name in regression.LOSSES:
        mean, small, large, good = map(float, rows[name])
        # A box of the mean size in the middle of the image has 0.2.
        assert mean > 0.5
        assert small < large
        assert 0 < good < 1
    assert "8/8" in output.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_boxes_enclose_the_digits(example) -> None:
    regression = example("box_regression")
    digits = regression.load_digits().images[:50]
    found = regression.scenes(digits, np.zeros((100, 100), np.float32), seed=1)
    assert found.images.shape == (50, regression.SIZE, regression.SIZE)
    boxes = np.asarray(found.boxes)
    assert np.all((boxes >= 0) & (boxes <= regression.SIZE))
    for image, (x1, y1, x2, y2) in zip(np.asarray(found.images), boxes, strict=True):
        rows, columns = np.nonzero(image > 0.5)
        # Pixels that are half inside, and the blur of half a pixel of the digit.
        blur = 2.5
        assert x1 - blur < columns.min() < columns.max() < x2 + blur
        assert y1 - blur < rows.min() < rows.max() < y2 + blur
        assert columns.min() - x1 < 2 * blur
        assert y2 - rows.max() < 2 * blur


def test_box_verdict_follows_the_numbers(example) -> None:
    verdict = example("box_regression").verdict
    worse, better = [0.5, 0.4, 0.6, 0.1], [0.6, 0.55, 0.65, 0.3]
    assert verdict({"codes": worse, "boxes": better}) == (
        "Trained by GIoU, boxes are better than by Smooth L1 on codes: "
        "mean IoU 0.60 against 0.50;\n"
        "the difference is greater for small digits "
        "(+0.15 for the smaller half, +0.05 for the larger)."
    )
    assert "no better" in verdict({"codes": better, "boxes": worse})
