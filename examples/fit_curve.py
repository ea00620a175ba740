"""Newton, Gauss-Newton and Levenberg-Marquardt on robust losses: a curve through bad points.

The speed of a reaction by how much there is to react: twelve measurements, in two of which a
decimal point slips. `jax.hessian` and one line of weights turn a loss into a least-squares solver;
Optimistix and SciPy find the same curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.optimize

import jaxloss

# Puromycin, treated cells: Bates and Watts, "Nonlinear regression analysis and its applications",
# 1988, table A1.3. Concentrations in ppm, speeds in counts per minute squared.
AMOUNTS = np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.10], 2)
SPEEDS = np.array([76, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200.0])
SLIPPED = (5, 11)  # these become ten times too small
START = np.array([100.0, 0.2])
SCALE = 10.0  # the usual error of a speed

LOSSES: dict[str, tuple[Callable, str]] = {
    "squares": (jaxloss.l2_loss, "linear"),
    "Huber": (partial(jaxloss.huber_loss, delta=SCALE), "huber"),
    # Times scale^2, which SciPy has in its loss; its scale is sqrt(2) times this one.
    "Cauchy": (lambda e: SCALE**2 / 2 * jaxloss.cauchy_loss(e, scale=SCALE / 2**0.5), "cauchy"),
}


def errors(curve: jax.Array, amounts: jax.Array, speeds: jax.Array) -> jax.Array:
    """Michaelis and Menten's law with `curve` = (greatest speed, amount of half of it)."""
    return curve[0] * amounts / (curve[1] + amounts) - speeds


def levenberg_marquardt(loss: Callable, residuals: Callable, start: jax.Array) -> jax.Array:
    """Minimise the sum of the losses of the residuals, each step by weighted least squares.

    The weight of a residual e is slope / e, so that the gradient is exact (Gauss-Newton on the
    reweighted squares). Where a step does not help, the next is damped more: a shorter one.
    """

    def total(curve: jax.Array) -> jax.Array:
        return jnp.sum(loss(residuals(curve)))

    def step(_: int, state: tuple) -> tuple:
        curve, damping = state
        e, slopes = residuals(curve), jax.jacobian(residuals)(curve)
        near = jnp.where(e == 0, 1e-6, e)  # at 0 the limit of slope / e
        weights = jax.vmap(jax.grad(loss))(near) / near
        normal = slopes.T @ (weights[:, None] * slopes)
        damped = normal + damping * jnp.diag(jnp.diag(normal))
        tried = curve - jnp.linalg.solve(damped, slopes.T @ (weights * e))
        helps = total(tried) < total(curve)
        return jnp.where(helps, tried, curve), jnp.where(helps, damping / 10, damping * 10)

    return jax.lax.fori_loop(0, 100, step, (start, jnp.ones(())))[0]


def newton(loss: Callable, residuals: Callable, start: jax.Array) -> jax.Array:
    """Newton's method with the exact Hessian, for the last digits: near the minimum only."""

    def total(curve: jax.Array) -> jax.Array:
        return jnp.sum(loss(residuals(curve)))

    def step(_: int, curve: jax.Array) -> jax.Array:
        return curve - jnp.linalg.solve(jax.hessian(total)(curve), jax.grad(total)(curve))

    return jax.lax.fori_loop(0, 5, step, start)


def by_optimistix(loss: Callable, residuals: Callable, start: jax.Array) -> jax.Array:
    """Half the squares of sign(e) sqrt(2 loss) are the losses: any least-squares solver will do."""

    def rooted(curve: jax.Array, _: None) -> jax.Array:
        e = residuals(curve)
        return jnp.sign(e) * jnp.sqrt(2 * loss(e))

    solver = optx.LevenbergMarquardt(rtol=1e-10, atol=1e-10)
    return optx.least_squares(rooted, solver, start, max_steps=1000).value


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.Parser(__doc__)
    default = "out/fit_curve.png"
    parser.add_argument("--out", type=common.picture_path, default=default, help="the picture")
    options = parser.parse_args(argv)

    speeds = SPEEDS.copy()
    speeds[list(SLIPPED)] /= 10
    curves, rows = {}, {}
    with jax.enable_x64(True):  # float32 would give six digits
        start = jnp.array(START)
        clean = partial(errors, amounts=AMOUNTS, speeds=SPEEDS)
        slipped = partial(errors, amounts=AMOUNTS, speeds=speeds)
        curves["squares, without slips"] = np.array(
            levenberg_marquardt(jaxloss.l2_loss, clean, start)
        )
        for name, (loss, scipys) in LOSSES.items():
            ours = levenberg_marquardt(loss, slipped, start)
            by_scipy = scipy.optimize.least_squares(
                lambda curve: np.array(slipped(curve)),
                START,
                loss=scipys,
                f_scale=SCALE,
                xtol=1e-14,
                ftol=1e-14,
                gtol=1e-14,
            )
            curves[name] = np.array(ours)
            rows[name] = {
                "Levenberg-Marquardt": curves[name],
                "Newton from there": np.array(newton(loss, slipped, ours)),
                "Optimistix": np.array(by_optimistix(loss, slipped, start)),
                "SciPy": by_scipy.x,
            }

    print(f"{'loss':<10}{'solver':<22}{'greatest speed':>16}{'half at':>12}")
    for name, solvers in rows.items():
        for solver, (speed, half) in solvers.items():
            print(f"{name:<10}{solver:<22}{speed:16.6f}{half:12.8f}")
    truth = curves["squares, without slips"]
    off = {name: 100 * abs(curves[name][0] / truth[0] - 1) for name in LOSSES}
    parts = ", ".join(f"{name} {percent:.1f} %" for name, percent in off.items())
    text = f"Two slips of twelve; the greatest speed is off by\n{parts}"
    print(text)

    picture, axes = common.figure(text, "a", (9, 5))
    amounts = np.linspace(0, 1.2, 200)
    for (name, curve), look in zip(curves.items(), reversed(common.LOOKS), strict=False):
        look = {**look, "marker": None}
        axes["a"].plot(amounts, errors(curve, amounts, 0.0), **look, label=name)
    good = np.setdiff1d(np.arange(len(speeds)), SLIPPED)
    axes["a"].plot(AMOUNTS[good], speeds[good], "ko", label="measured")
    axes["a"].plot(
        AMOUNTS[list(SLIPPED)], speeds[list(SLIPPED)], "rx", markersize=10, label="slipped"
    )
    axes["a"].set(xlabel="amount [ppm]", ylabel="speed [counts / min²]")
    axes["a"].legend()
    common.save(picture, options.out)


if __name__ == "__main__":
    main()
