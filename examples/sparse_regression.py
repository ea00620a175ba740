"""Which measurements matter? The lasso by proximal gradient, with parameters that are exactly 0.

Ten measurements of 442 patients stand beside columns of pure noise. The L1 penalty has a corner
at 0 that gradient descent jumps over for ever, so that none of its parameters is 0. A proximal
step comes to rest there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.linear_model import Lasso

import jaxloss
from jaxloss import prox

MEASURED = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
NOISE = 20  # columns
SCALES = np.geomspace(0.5, 0.005, 60).astype(np.float32)  # of the penalty


class Problem(NamedTuple):
    """Patients to learn from and patients to choose the penalty by, in units of deviations."""

    inputs: jax.Array
    targets: jax.Array
    other_inputs: jax.Array
    other_targets: jax.Array
    unit: float  # of the targets, in points of disease progression


def problem(seed: int) -> Problem:
    """Half of the patients, and the other half; the noise comes after the measurements."""
    rng = np.random.default_rng(seed)
    inputs, targets = common.diabetes()
    noise = rng.standard_normal((len(inputs), NOISE), np.float32)
    inputs = np.concatenate([inputs, noise], 1)
    half, other = np.array_split(rng.permutation(len(inputs)), 2)
    mean, deviation = inputs[half].mean(0), inputs[half].std(0)
    center, unit = targets[half].mean(), targets[half].std()
    inputs, targets = (inputs - mean) / deviation, (targets - center) / unit
    parts = (inputs[half], targets[half], inputs[other], targets[other])
    return Problem(*map(jnp.asarray, parts), float(unit))


def loss(params: dict, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    predictions = inputs @ params["weights"] + params["bias"]
    return jaxloss.l2_loss(predictions, targets, reduction="mean")


def penalty_of(scale: jax.Array) -> prox.Penalty:
    """L1 on the weights; the bias is free."""
    return prox.masked(prox.l1(scale), {"weights": True, "bias": False})


def rate_of(inputs: jax.Array) -> float:
    """The longest step: one over the largest curvature of the loss."""
    with_bias = np.concatenate([inputs, np.ones((len(inputs), 1))], 1)
    return float(len(inputs) / np.linalg.norm(with_bias, 2) ** 2)


def descend(given: Problem, scale: jax.Array, proximal: bool, steps: int) -> dict:
    """Fit a linear model: by proximal gradient, or by gradient descent on the same objective."""
    rate, penalty = rate_of(given.inputs), penalty_of(scale)

    def objective(params: dict) -> jax.Array:
        value = loss(params, given.inputs, given.targets)
        return value if proximal else value + penalty(params)

    optimizer = prox.proximal_gradient(penalty, rate) if proximal else optax.sgd(rate)

    def step(carry: tuple, _: None) -> tuple:
        params, state = carry
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = {"weights": jnp.zeros(given.inputs.shape[1]), "bias": jnp.zeros(())}
    return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[0][0]


def error(given: Problem, params: dict) -> jax.Array:
    """The root of the mean squared error on the other patients, in points."""
    return given.unit * jnp.sqrt(2 * loss(params, given.other_inputs, given.other_targets))


def away_from_peer(given: Problem, weights: jax.Array, scale: float) -> float:
    """The largest difference to the weights that scikit-learn finds."""
    peer = Lasso(float(scale), tol=1e-10, max_iter=100_000)
    peer.fit(np.asarray(given.inputs, np.float64), np.asarray(given.targets, np.float64))
    return float(np.max(np.abs(peer.coef_ - np.asarray(weights))))


def kept(weights: jax.Array) -> str:
    """What a model reads, in words."""
    some = np.asarray(weights) != 0
    names = [name for name, reads in zip(MEASURED, some, strict=False) if reads]
    noise = int(some[len(MEASURED) :].sum())
    return f"{', '.join(names) or 'nothing'}; {noise} of {NOISE} columns of noise"


def draw(paths: dict[str, jax.Array], errors: jax.Array, best: int, title: str) -> Figure:
    picture, axes = common.figure(title, "ab", (12.5, 5.6))
    weights = np.asarray(paths["proximal gradient"])
    strongest = np.argsort(-np.abs(weights[best, : len(MEASURED)]))[: len(common.LOOKS)]
    for place in range(weights.shape[1]):
        noise = place >= len(MEASURED)
        look = {"color": "0.75" if noise else "0.35", "linewidth": 0.8 if noise else 1.4}
        label = {0: "other measurements", len(MEASURED): "noise"}.get(place)
        if place in strongest:
            look, label = common.LOOKS[list(strongest).index(place)], MEASURED[place]
        axes["a"].plot(SCALES, weights[:, place], **{**look, "marker": None}, label=label)
    axes["a"].set(title="(a) Weights, exactly 0 until they enter", ylabel="weight")
    for (name, path), look in zip(paths.items(), common.LOOKS, strict=False):
        zeros = np.sum(np.asarray(path) == 0, -1)
        axes["b"].plot(SCALES, zeros, **{**look, "marker": None}, label=f"zeros, {name}")
    axes["b"].set(title="(b) How many are exactly 0", ylabel=f"weights of {weights.shape[1]}")
    other = axes["b"].twinx()
    other.grid(False)
    other.plot(SCALES, errors, color="#000000", linestyle=":", label="error of the former, right")
    other.set_ylabel("error on the other patients, points")
    for name in "ab":
        axes[name].set(xscale="log", xlabel="scale of the penalty")
        axes[name].invert_xaxis()
        axes[name].axvline(SCALES[best], color="0.5", linewidth=1)
    axes["a"].legend(
        *axes["a"].get_legend_handles_labels(),
        loc="upper center",
        ncols=4,
        bbox_to_anchor=(0.5, -0.13),
    )
    lines = [*axes["b"].get_lines()[:2], *other.get_lines()]
    axes["b"].legend(
        lines,
        [line.get_label() for line in lines],
        loc="upper center",
        ncols=2,
        bbox_to_anchor=(0.5, -0.13),
    )
    return picture


def main(argv: Sequence[str] | None = None, *, steps: int = 2000) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**32 - 1), default=0, help="of the noise and the halves")
    default = "out/sparse_regression.png"
    add("--out", type=common.picture_path, default=default, help="the picture")
    options = parser.parse_args(argv)

    given = problem(options.seed)
    models = {}
    for name, proximal in (("proximal gradient", True), ("gradient descent", False)):
        # One model for each scale of the penalty, all at once.
        run = jax.jit(jax.vmap(lambda scale, p=proximal: descend(given, scale, p, steps)))
        models[name] = run(jnp.asarray(SCALES))
    measure = jax.vmap(lambda params: error(given, params))
    errors = {name: measure(params) for name, params in models.items()}
    best = int(jnp.argmin(errors["proximal gradient"]))

    free = descend(given, jnp.float32(0), True, steps)
    print(
        f"{len(MEASURED)} measurements and {NOISE} columns of noise, {len(given.targets)} patients"
    )
    print(f"{'':24}{'scale':>8}{'exact zeros':>14}{'error on others':>18}")
    rows = [("no penalty", 0.0, free["weights"], error(given, free))]
    for name, params in models.items():
        rows.append((name, SCALES[best], params["weights"][best], errors[name][best]))
    for name, scale, weights, points in rows:
        print(f"{name:24}{scale:8.3f}{int(jnp.sum(weights == 0)):14d}{points:11.1f} points")
    weights = models["proximal gradient"]["weights"][best]
    print(f"Kept: {kept(weights)}.")
    print(f"Largest difference to scikit-learn: {away_from_peer(given, weights, SCALES[best]):.1e}")

    zeros = [int(jnp.sum(params["weights"][best] == 0)) for params in models.values()]
    title = (
        f"At the best penalty {zeros[0]} of {weights.size} weights are exactly 0; "
        f"by gradient descent on the same objective {zeros[1]}"
    )
    paths = {name: params["weights"] for name, params in models.items()}
    common.save(draw(paths, errors["proximal gradient"], best, title), options.out)


if __name__ == "__main__":
    main()
