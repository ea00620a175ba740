"""The language model goes on from a checkpoint, and trains on a mesh, as if nothing had been."""

from __future__ import annotations

import functools
import shutil
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

EPS = float(np.finfo(np.float32).eps)
VOCABULARY = 512
SMALL = ["--vocabulary", str(VOCABULARY), "--dtype", "float32", "--steps", "4", "--rows", "8"]


@pytest.fixture
def model(example, monkeypatch) -> Any:
    """The example with few rows; `histories` has what its runs found, to the last digit."""
    demo = example("train_language_model")
    files, draw, histories = demo.library(VOCABULARY), demo.draw, []
    # The last rows of files are filled up.
    ends = np.flatnonzero((files.train[:, 1] == demo.NONE).any(-1))
    few = files._replace(train=files.train[np.r_[:100, ends]], held_out=files.held_out[:20])

    def drawn(history: Any, *args: Any) -> Any:
        histories.append(history)
        return draw(history, *args)

    for name, value in {"EVERY": 2, "draw": drawn, "library": lambda _: few}.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "histories", histories, raising=False)
    return demo


def test_a_second_run_goes_on_and_a_mesh_changes_nothing(model, tmp_path, capsys) -> None:
    """Of 15 seconds of CPU most go into three traces and compilations of a transformer."""
    folder, out = tmp_path / "checkpoints", ["--out", str(tmp_path / "x.png")]
    arguments = [*SMALL, *out, "--mesh", "1,1", "--checkpoint", str(folder)]
    model.main(arguments, width=16)
    assert "Devices: 1; tokens per second: " in capsys.readouterr().out
    # As if the machine had stopped before the last checkpoint.
    shutil.rmtree(folder / "4")
    model.main(arguments, width=16)
    assert "Goes on after step 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        model.main([*arguments, "--seed", "1"], width=16)
    assert "--checkpoint: the run that is there has other seed\n" in capsys.readouterr().err
    model.main([*SMALL, *out, "--mesh", "2,4"], width=16)
    assert "Devices: 8; tokens per second: " in capsys.readouterr().out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")

    whole, resumed, meshed = model.histories
    assert len(whole.losses) == 4
    assert resumed.losses == whole.losses
    np.testing.assert_array_equal(resumed.held_out, whole.held_out)
    # Each loss is a sum over up to 512 tokens, in another order.
    tolerance = 32 * EPS
    np.testing.assert_allclose(meshed.losses, whole.losses, rtol=tolerance)
    np.testing.assert_allclose(meshed.held_out, whole.held_out, rtol=tolerance)
    # Steps differ by more than that.
    assert np.abs(np.diff(whole.losses)).min() > 100 * tolerance


def test_every_byte_of_a_file_is_guessed_once(example) -> None:
    demo = example("train_language_model")
    files = demo.library(VOCABULARY)
    assert len(set(files.pieces)) == VOCABULARY
    numbers = {piece: number for number, piece in enumerate(files.pieces)}
    for file in (*files.held_out_files, b"", b"\xc3\xa9 x\r\n\n  =='s"):
        rows = demo.rows(file, numbers)
        labels = rows[:, 1].ravel()
        tokens = labels[labels != demo.NONE]
        assert b"".join(files.pieces[token] for token in tokens) == file
        assert files.size(labels) == len(file)
        # From the token before it; the first from nothing, and nothing from what follows a file.
        given = rows[:, 0].ravel()[: len(tokens)]
        np.testing.assert_array_equal(given, [demo.START, *tokens][: len(tokens)])
        assert rows.min(initial=0) >= demo.NONE
        assert rows[:, 0].min(initial=0) >= 0
    assert files.size(files.held_out[:, 1]) == sum(map(len, files.held_out_files))


def test_bits_of_a_model_that_knows_nothing(model) -> None:
    """And the loss that holds logits is the same."""
    settings = model.Settings(VOCABULARY, "float32", 0, 4, 8, 16)
    kind = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=kind, devices=jax.devices()[:1])
    files = model.library(VOCABULARY)
    batch = jnp.array(files.train[-8:])
    with jax.set_mesh(mesh):
        graph, params = nnx.split(model.Transformer(settings))
        mean = functools.partial(model.mean_loss, graph)
        programs = types.SimpleNamespace(rows=8, judge=jax.jit(mean), spread=jnp.array)
        fused, dense = mean(params, batch), mean(params, batch, dense=True)
        nothing = jax.tree.map(jnp.zeros_like, params)
        found = model.bits_per_byte(programs, nothing, files)
    tokens = int((files.held_out[:, 1] != model.NONE).sum())
    assert found == pytest.approx(tokens * 9 / files.size(files.held_out[:, 1]), rel=32 * EPS)
    known = (files.train[-8:, 1] != model.NONE).sum(-1)
    assert 0 < known.min() < known.max()
    assert fused.weight == dense.weight == known.sum()
    np.testing.assert_allclose(fused.total, dense.total, rtol=32 * EPS)


def test_a_process_that_fails_ends_the_local_cluster(example, monkeypatch, tmp_path) -> None:
    demo, script = example("train_language_model"), tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "address, count, number = sys.argv[-1].removeprefix('--cluster=').split(',')\n"
        "assert sys.argv[1:-1] == ['--processes', '2', '--processes=1'] and count == '2'\n"
        "assert os.environ['XLA_FLAGS'].count('device_count=') == 1\n"
        "assert 'device_count=3' in os.environ['XLA_FLAGS']\n"
        "if number == '0': time.sleep(60)\n"
        "sys.exit(7)\n"
    )
    monkeypatch.setattr(demo, "__file__", str(script))
    assert demo.local_cluster(2, 3, ["--processes", "2"]) == 7
    script.write_text("")
    assert demo.local_cluster(2, 3, []) == 0
