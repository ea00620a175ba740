"""Why does PPO clip? A pole on a cart, balanced by a policy that learns from its own trials.

The cart-pole of Barto, Sutton and Anderson is written out here, in JAX, so that thousands of steps
are one compiled loop. A policy and a critic learn by `ppo_loss`, `value_loss` and `entropy_loss`
from advantages that tell an episode that ended from one that was cut off. The same trials are used
for many steps of the optimizer, with and without the clip, or for one pass.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from tqdm import tqdm

import jaxloss

# The cart-pole of Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve
# difficult learning control problems", 1983: a push to the left or to the right, 50 times a second.
GRAVITY, CART, POLE, HALF_LENGTH, PUSH, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
LONGEST = 500  # steps, after which an episode is cut off: the pole has not fallen
CARTS, HORIZON = 16, 128  # of each policy, and steps of a rollout
BATCH = 512  # steps of a minibatch
DISCOUNT, LAMBDA = 0.99, 0.95


class Rule(NamedTuple):
    """How a rollout is used: by how many passes, and with what clip of the ratio."""

    passes: int
    clip: float


RULES = {
    "10 clipped passes": Rule(10, 0.2),
    "10 free passes": Rule(10, 1e6),
    "1 free pass": Rule(1, 1e6),
}
LOOKS = dict(zip(RULES, common.LOOKS, strict=False))


class Carts(NamedTuple):
    """Where carts and poles are and how fast, and how many steps ago their episodes began."""

    state: jax.Array
    age: jax.Array
    last: jax.Array  # the length of the last episode that ended


class Trials(NamedTuple):
    """Steps of carts, `[HORIZON, CARTS]`."""

    state: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array  # of the state that came, before another episode began
    fell: jax.Array
    over: jax.Array  # the pole fell, or the episode was cut off


class Results(NamedTuple):
    """After each rollout, `[rollouts, policies]`."""

    length: np.ndarray  # mean over the carts, of the last episode
    moved: np.ndarray  # the estimated divergence of the new policy from the one that acted


def push(state: jax.Array, action: jax.Array) -> jax.Array:
    """The state 1/50 of a second later, by Euler's method."""
    _, speed, angle, turn = jnp.moveaxis(state, -1, 0)
    force = jnp.where(action == 1, PUSH, -PUSH)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    mass = CART + POLE
    pull = (force + POLE * HALF_LENGTH * turn**2 * sine) / mass
    swing = (GRAVITY * sine - cosine * pull) / (HALF_LENGTH * (4 / 3 - POLE * cosine**2 / mass))
    moved = pull - POLE * HALF_LENGTH * swing * cosine / mass
    change = jnp.stack([speed, moved, turn, swing], -1)
    return state + SECONDS * change


def has_fallen(state: jax.Array) -> jax.Array:
    """The cart left the track, or the pole leans by more than 12 degrees."""
    return (jnp.abs(state[..., 0]) > 2.4) | (jnp.abs(state[..., 2]) > math.radians(12))


class ActorCritic(nnx.Module):
    """The logits of both pushes, and the value of the state."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        def network(outputs: int, scale: float) -> nnx.Sequential:
            last = nnx.initializers.orthogonal(scale)
            return nnx.Sequential(
                nnx.Linear(4, 64, rngs=rngs),
                nnx.tanh,
                nnx.Linear(64, 64, rngs=rngs),
                nnx.tanh,
                nnx.Linear(64, outputs, kernel_init=last, rngs=rngs),
            )

        self.actor, self.critic = network(2, 0.01), network(1, 1.0)

    def __call__(self, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.actor(state), self.critic(state)[..., 0]


def log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    return -jaxloss.softmax_cross_entropy_with_integer_labels(logits, action)


def advantages(trials: Trials) -> jax.Array:
    """Generalized advantage estimates (Schulman et al., 2016).

    A pole that fell has no future; one that was cut off has, and its value stands for it. The sum
    over later steps ends at both.
    """
    future = jnp.where(trials.fell, 0, DISCOUNT * trials.next_value)
    surprise = 1 + future - trials.value  # a step is worth 1

    def back(later: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        surprise, over = step
        total = surprise + jnp.where(over, 0, DISCOUNT * LAMBDA * later)
        return total, total

    start = jnp.zeros_like(surprise[0])
    return jax.lax.scan(back, start, (surprise, trials.over), reverse=True)[1]


def begin(key: jax.Array) -> jax.Array:
    return jax.random.uniform(key, (CARTS, 4), minval=-0.05, maxval=0.05)


def roll_out(model: Any, carts: Carts, key: jax.Array) -> tuple[Carts, Trials]:
    def step(carts: Carts, key: jax.Array) -> tuple[Carts, Trials]:
        draw, fresh = jax.random.split(key)
        logits, value = model(carts.state)
        action = jax.random.categorical(draw, logits)
        state, age = push(carts.state, action), carts.age + 1
        fell = has_fallen(state)
        over = fell | (age == LONGEST)
        taken = Trials(
            carts.state, action, log_prob(logits, action), value, model(state)[1], fell, over
        )
        state = jnp.where(over[:, None], begin(fresh), state)
        last = jnp.where(over, age, carts.last)
        return Carts(state, jnp.where(over, 0, age), last), taken

    return jax.lax.scan(step, carts, jax.random.split(key, HORIZON))


def objective(model: Any, trials: Trials, gain: jax.Array, clip: float) -> jax.Array:
    """Of a minibatch of steps: the policy, half the critic, and a little entropy."""
    logits, value = model(trials.state)
    gain_of_each = (gain - gain.mean()) / (gain.std() + 1e-8)
    policy = jaxloss.ppo_loss(
        log_prob(logits, trials.action), trials.log_prob, gain_of_each, clip=clip, reduction="mean"
    )
    returns = trials.value + gain
    critic = jaxloss.value_loss(value, returns, trials.value, clip=10.0, reduction="mean")
    return policy + 0.5 * critic + 0.01 * jaxloss.entropy_loss(logits, reduction="mean")


OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3, eps=1e-5))


def start(key: jax.Array) -> tuple[Any, Any, Carts]:
    """Parameters, the optimizer's memory, and carts."""
    params = nnx.state(ActorCritic(nnx.Rngs(key)))
    idle = jnp.zeros(CARTS, int)
    return params, OPTIMIZER.init(params), Carts(begin(key), idle, idle)


@functools.partial(jax.jit, static_argnames="passes")
def use_rollout(
    params: Any, memory: Any, carts: Carts, key: jax.Array, clip: float, passes: int
) -> tuple[Any, Any, Carts, jax.Array, jax.Array]:
    """Act, and learn from what came of it; also how long poles were up, and how far it moved."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: ActorCritic(nnx.Rngs(0))))
    acting, shuffling = jax.random.split(key)
    carts, trials = roll_out(nnx.merge(graph, params), carts, acting)
    data = trials, advantages(trials)
    data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data)

    def step(networks: tuple[Any, Any], rows: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, memory = networks
        batch = jax.tree.map(lambda x: x[rows], data)
        trials, gain = batch
        slopes = jax.grad(lambda p: objective(nnx.merge(graph, p), trials, gain, clip))(params)
        change, memory = OPTIMIZER.update(slopes, memory, params)
        return (optax.apply_updates(params, change), memory), None

    shuffle = functools.partial(jax.random.permutation, x=HORIZON * CARTS)
    rows = jax.vmap(shuffle)(jax.random.split(shuffling, passes)).reshape(-1, BATCH)
    (params, memory), _ = jax.lax.scan(step, (params, memory), rows)
    flat, _ = data
    new = log_prob(nnx.merge(graph, params)(flat.state)[0], flat.action)
    moved = jaxloss.kl_estimate(flat.log_prob, new, reduction="mean")
    return params, memory, carts, carts.last.mean(), moved


def train(rule: Rule, keys: jax.Array, rollouts: int, bar: tqdm) -> Results:
    """Train one policy for each key, all of them at once."""
    once = functools.partial(use_rollout, passes=rule.passes)
    step = jax.vmap(once, in_axes=(0, 0, 0, 0, None))
    networks = jax.vmap(start)(keys)
    found = []
    for number in range(rollouts):
        each = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        *networks, length, moved = step(*networks, each, rule.clip)
        found.append((np.asarray(length), np.asarray(moved)))
        bar.update()
    return Results(*map(np.stack, zip(*found, strict=True)))


def last_fifth(numbers: np.ndarray) -> np.ndarray:
    """The mean over the last fifth of the rollouts, of each policy."""
    return numbers[-max(1, len(numbers) // 5) :].mean(0)


def table(results: dict[str, Results]) -> str:
    lines = [f"{'a rollout is used by':<24}{'steps balanced':>16}{'worst policy':>14}{'moved':>9}"]
    for name, result in results.items():
        length, moved = last_fifth(result.length), float(result.moved.mean())
        text = f"{length.mean():.0f} ± {length.std():.0f}"
        lines.append(f"{name:<24}{text:>16}{length.min():>14.0f}{moved:>9.4f}")
    return "\n".join(lines)


def verdict(results: dict[str, Results]) -> str:
    """What one sees, from the last fifth of the rollouts."""
    means = {name: float(last_fifth(x.length).mean()) for name, x in results.items()}
    moved = {name: float(x.moved.mean()) for name, x in results.items()}
    order = sorted(means, key=lambda name: -means[name])
    parts = ", ".join(f"{name} {means[name]:.0f}" for name in order)
    clipped, free, _ = RULES
    times = moved[free] / moved[clipped]
    far = f"without the clip a rollout moved a policy {times:.1f}x as far"
    return f"Steps balanced, of {LONGEST}: {parts}; {far}"


def draw(results: dict[str, Results], title: str) -> Figure:
    picture, axes = common.figure(title.replace("; ", ";\n", 1), "ab", (13, 5))
    for name, result in results.items():
        steps = HORIZON * CARTS * np.arange(1, len(result.length) + 1) / 1000
        look = {**LOOKS[name], "label": name, "markevery": max(1, len(steps) // 8)}
        mean = result.length.mean(1)
        axes["a"].plot(steps, mean, **look)
        low, high = np.quantile(result.length, (0, 1), 1)
        axes["a"].fill_between(
            steps, low, high, color=LOOKS[name]["color"], alpha=0.12, linewidth=0
        )
        axes["b"].plot(steps, result.moved.mean(1), **look)
    axes["a"].axhline(LONGEST, color="0.5", linewidth=1)
    axes["a"].set(
        title="(a) How long the pole stays up: mean and range of policies",
        xlabel="steps of the carts [1000]",
        ylabel="steps of an episode",
    )
    axes["b"].set(
        title="(b) How far a policy moves on one rollout",
        xlabel="steps of the carts [1000]",
        ylabel="divergence from the policy that acted (k3)",
        yscale="log",
    )
    for panel in axes.values():
        panel.legend(loc="best", framealpha=0.95)
    return picture


def main(argv: Sequence[str] | None = None, *, policies: int = 5, rollouts: int = 40) -> None:
    parser = common.Parser(__doc__)
    add = parser.add_argument
    add("--seed", type=common.between(0, 2**31), default=0, help="of policies and of their trials")
    add("--out", type=common.picture_path, default="out/policy_gradient.png", help="picture")
    options = parser.parse_args(argv)

    keys = jax.random.split(jax.random.key(options.seed), policies)
    results = {}
    with tqdm(total=rollouts * len(RULES), unit="rollout") as bar:
        for name, rule in RULES.items():
            bar.set_description(f"{policies} policies, {name}")
            results[name] = train(rule, keys, rollouts, bar)
    print(f"Last fifth of the rollouts, mean ± deviation of {policies} policies")
    print(table(results))
    text = verdict(results)
    print(text)
    common.save(draw(results, text), options.out)


if __name__ == "__main__":
    main()
