"""Why L1 never settles under a constant step, and two cures.

The slope of |e| is 1 however small the error e is: gradient descent jumps over the target and
back, for ever, one step wide. Steps that shrink cure it, and so does Smooth L1, whose slope
shrinks with the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _common as common
import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

import jaxloss

START = 1.03  # the first error; no multiple of a step, which would hit the target exactly
STEPS = (0.05, 0.1, 0.2, 0.4)
SHOWN = 0.2  # the step in the picture


def constant(step: jax.Array) -> optax.Schedule:
    return lambda count: step


def decaying(step: jax.Array) -> optax.Schedule:
    """Towards zero, but so slowly that the steps add up to infinity: any target is in reach."""
    return lambda count: step / (1 + 0.1 * count)


RUNS = {
    "L1, constant step": (jaxloss.l1_loss, constant),
    "L1, decaying step": (jaxloss.l1_loss, decaying),
    "Smooth L1, constant step": (jaxloss.smooth_l1_loss, constant),
}
LOOKS = dict(zip(RUNS, common.LOOKS, strict=False))


def descend(loss: Callable, schedule: Callable, step: jax.Array, count: int) -> jax.Array:
    """The errors along `count` steps of gradient descent, `[count]`."""
    optimizer = optax.sgd(schedule(step))

    def advance(carry: tuple, _: None) -> tuple:
        error, state = carry
        updates, state = optimizer.update(jax.grad(loss)(error), state)
        return (optax.apply_updates(error, updates), state), error

    start = jnp.float32(START)
    return jax.lax.scan(advance, (start, optimizer.init(start)), length=count)[1]


def swing(errors: jax.Array) -> jax.Array:
    """Largest less smallest of the ten errors that end at each step, `[..., count - 9]`."""
    count = errors.shape[-1]
    return jnp.ptp(jnp.stack([errors[..., i : count - 9 + i] for i in range(10)]), axis=0)


def draw(paths: dict[str, jax.Array], title: str) -> Figure:
    picture, axes = common.figure(title, "ab", (12, 5))
    for name, errors in paths.items():
        path, look = errors[STEPS.index(SHOWN)], {**LOOKS[name], "label": name}
        axes["a"].plot(path[:40], **look, markersize=5)
        widths = swing(path)
        axes["b"].semilogy(10 + jnp.arange(len(widths)), widths, **{**look, "marker": None})
    axes["a"].set(title="(a) The way to the target", xlabel="step", ylabel="error e")
    axes["b"].set(title="(b) How far it still swings", xlabel="step", ylim=(1e-5, 4))
    axes["b"].set_ylabel("largest less smallest e of the last ten steps")
    picture.legend(*axes["a"].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return picture


def main(argv: Sequence[str] | None = None, *, count: int = 200) -> None:
    parser = common.Parser(__doc__)
    default = "out/l1_convergence.png"
    parser.add_argument("--out", type=common.picture_path, default=default, help="the picture")
    options = parser.parse_args(argv)

    paths, lasts = {}, []
    print(f"Largest less smallest error of the last ten of {count} steps")
    print(f"{'length of the first step':<26}" + "".join(f"{step:>10}" for step in STEPS))
    for name, (loss, schedule) in RUNS.items():
        # One run per step length, all at once.
        run = jax.vmap(lambda step, loss=loss, rule=schedule: descend(loss, rule, step, count))
        paths[name] = run(jnp.array(STEPS))
        widths = swing(paths[name])[:, -1]
        lasts.append(f"{name} {widths[STEPS.index(SHOWN)]:.4f}")
        print(f"{name:<26}" + "".join(f"{width:10.5f}" for width in widths))
    title = f"With steps of {SHOWN}, the last ten of {count} errors still lie this far apart:\n"
    common.save(draw(paths, title + "; ".join(lasts)), options.out)


if __name__ == "__main__":
    main()
