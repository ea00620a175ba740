"""Exact forms of the losses of policies and values, in mpmath."""

from mpmath import mp

from tests.laws.arithmetic import product
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
    ratio = _ratio(log_probs, old_log_probs)
    if kind == "cispo":
        weight = _bounded(ratio, low, high) if weight is None else weight
        return [-product(weight * advantages, log_probs)]
    gain = min(product(advantages, ratio), product(advantages, _bounded(ratio, low, high)))
    if dual_clip is not None and advantages < 0:
        gain = max(gain, dual_clip * advantages)
    return [-gain]
