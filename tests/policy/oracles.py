"""Exact forms of the losses of policies and values, in mpmath."""

from mpmath import mp

from tests.laws.arithmetic import product, softmax
from tests.laws.slopes import slopes


def _ratio(log_probs, old_log_probs):
    """That of a sequence is the geometric mean over its tokens."""
    if isinstance(log_probs, list):
        gaps = [p - q for p, q in zip(log_probs, old_log_probs, strict=True)]
        return mp.exp(mp.fsum(gaps) / len(gaps))
    return mp.exp(log_probs - old_log_probs)


def _bounded(ratio, low, high):
    return min(max(ratio, 1 - low), 1 + high)


def _weight(log_probs, old_log_probs, advantages, *, kind="ppo", clip=0.2, clip_high=None, **_):
    """The weight of "cispo" is held constant."""
    if kind == "ppo":
        return {}
    ratio = _ratio(log_probs, old_log_probs)
    return {"weight": _bounded(ratio, clip, clip if clip_high is None else clip_high)}


@slopes(held=_weight)
def ppo_loss(
    log_probs,
    old_log_probs,
    advantages,
    *,
    clip=0.2,
    clip_high=None,
    dual_clip=None,
    kind="ppo",
    level="token",
    weight=None,
):
    low, high = clip, clip if clip_high is None else clip_high
    inside = low >= 0 and high >= 0 and (dual_clip is None or dual_clip >= 1)
    if not inside:
        return [mp.nan]
    if level == "token" and isinstance(log_probs, list):
        given = {"clip": clip, "clip_high": clip_high, "dual_clip": dual_clip, "kind": kind}
        pairs = zip(log_probs, old_log_probs, strict=True)
        return [x for p, q in pairs for x in ppo_loss(p, q, advantages, **given)]
    ratio = _ratio(log_probs, old_log_probs)
    if kind == "cispo":
        weight = _bounded(ratio, low, high) if weight is None else weight
        return [-product(weight * advantages, log_probs)]
    gain = min(product(advantages, ratio), product(advantages, _bounded(ratio, low, high)))
    if dual_clip is not None and advantages < 0:
        gain = max(gain, dual_clip * advantages)
    return [-gain]


def kl_estimate(log_probs, reference_log_probs, *, kind="k3"):
    d = reference_log_probs - log_probs
    k3 = d if d == mp.inf else mp.exp(d) - 1 - d
    return [{"k1": -d, "k2": d**2 / 2, "k3": k3}[kind]]


def value_loss(values, returns, old_values, *, clip=0.2):
    if not clip >= 0:
        return [mp.nan]
    near = min(max(values, old_values - clip), old_values + clip)
    return [max((values - returns) ** 2, (near - returns) ** 2) / 2]


def entropy_loss(logits):
    surprise, p, _ = softmax(logits)
    return [-product(share, u) for share, u in zip(p, surprise, strict=True)]


def quantile_huber_loss(predictions, targets, *, quantiles=None, delta=1):
    n = len(predictions)
    quantiles = [(i + mp.mpf(0.5)) / n for i in range(n)] if quantiles is None else quantiles
    if not (delta >= 0 and all(0 <= q <= 1 for q in quantiles)):
        return [mp.nan]
    return [
        (1 - q if t < p else q) * _huber(abs(t - p), delta) / len(targets)
        for p, q in zip(predictions, quantiles, strict=True)
        for t in targets
    ]


def _huber(size, delta):
    return size**2 / (2 * delta) if size < delta else size - delta / 2


def reduce_tokens(losses, *, normalizer="sequence", length=None):
    if normalizer == "constant" and (length is None or not length > 0):
        return [mp.nan]
    divisor = {"sequence": len(losses), "constant": length, "token": 1}[normalizer]
    return [x / divisor for x in losses]
