"""The language model goes on from a checkpoint, and trains on a mesh, as if nothing had been."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SMALL = ["--vocabulary", "512", "--dtype", "float32", "--steps", "4"]
# Sums of a row of 128 places, in another order.
TOLERANCE = 128 * float(np.finfo(np.float32).eps)


@pytest.fixture
def model(example, monkeypatch):
    """The example with few rows; `histories` has what its runs found, to the last digit."""
    demo = example("train_language_model")
    files, draw = demo.text(512), demo.draw
    few = files._replace(train=files.train[::8], held_out=files.held_out[:20])
    demo.histories = []

    def drawn(history, *args):
        demo.histories.append(history)
        return draw(history, *args)

    for name, value in {"ROWS": 8, "EVERY": 2, "draw": drawn, "text": lambda _: few}.items():
        monkeypatch.setattr(demo, name, value)
    return demo


def test_a_second_run_goes_on_and_a_mesh_changes_nothing(model, tmp_path, capsys) -> None:
    """About ... seconds of CPU: each run traces and compiles a transformer."""
    folder, out = tmp_path / "checkpoints", ["--out", str(tmp_path / "x.png")]
    arguments = [*SMALL, *out, "--mesh", "1,1", "--checkpoint", str(folder)]
    model.main(arguments, width=16)
    assert "tokens per second on 1 devices" in capsys.readouterr().out
    # As if the machine had stopped before the last checkpoint.
    shutil.rmtree(folder / "4")
    model.main(arguments, width=16)
    assert "Goes on after step 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        model.main([*arguments, "--seed", "1"], width=16)
    assert "--checkpoint: the run that is there has other seed" in capsys.readouterr().err
    model.main([*SMALL, *out, "--mesh", "2,4"], width=16)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")

    whole, resumed, meshed = model.histories
    assert len(whole.losses) == 4
    assert resumed.losses == whole.losses
    np.testing.assert_array_equal(resumed.held_out, whole.held_out)
    print(np.array(meshed.losses)/np.array(whole.losses)-1, whole, np.array(meshed.held_out)/np.array(whole.held_out)-1)
    np.testing.assert_allclose(meshed.losses, whole.losses, rtol=TOLERANCE)
    np.testing.assert_allclose(meshed.held_out, whole.held_out, rtol=TOLERANCE)
    # Steps differ by more than by rounding.
    assert np.abs(np.diff(whole.losses)).min() > 100 * TOLERANCE
