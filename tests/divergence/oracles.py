"""D(targets || predictions) between distributions, which are lists over the outcomes.

A negative probability gives NaN, and 0 log 0 is 0.
"""

from mpmath import mp

from tests.laws.arithmetic import product, softmax
from tests.laws.slopes import slopes


def kl_divergence(log_predictions, targets):
    return [
        *(_plogp(t) for t in targets),
        *(-product(t, x) for t, x in zip(targets, log_predictions, strict=True)),
    ]


def kl_divergence_with_log_targets(log_predictions, log_targets):
    targets = [mp.exp(x) for x in log_targets]
    return [
        *(product(t, x) for t, x in zip(targets, log_targets, strict=True)),
        *(-product(t, x) for t, x in zip(targets, log_predictions, strict=True)),
    ]


def generalized_kl_divergence(log_predictions, targets):
    return [
        *kl_divergence(log_predictions, targets),
        *(mp.exp(x) for x in log_predictions),
        *(-t for t in targets),
    ]


convex_kl_divergence = generalized_kl_divergence


def jensen_shannon_divergence(predictions, targets):
    # The summand of an outcome is not negative, so that of each is one term.
    terms = []
    for p, t in zip(predictions, targets, strict=True):
        terms.append((_plogp(p) + _plogp(t)) / 2 - _plogp((p + t) / 2))
    return terms


def total_variation_distance(predictions, targets):
    return [abs(p - t) / 2 for p, t in zip(predictions, targets, strict=True)]


def hellinger_distance(predictions, targets):
    roots = [(_sqrt(p), _sqrt(t)) for p, t in zip(predictions, targets, strict=True)]
    return [mp.sqrt(mp.fsum((a - b) ** 2 for a, b in roots) / 2)]


@slopes(undefined={"alpha": (1,)})
def renyi_divergence(predictions, targets, *, alpha):
    if alpha < 0 or min(predictions) < 0 or min(targets) < 0:
        return [mp.nan]
    if alpha == 1:
        return kl_divergence([mp.log(p) for p in predictions], targets)
    logarithms = [(mp.log(p), mp.log(t)) for p, t in zip(predictions, targets, strict=True)]
    if mp.isinf(alpha):
        log_p, log_t = max(
            (pair for pair in logarithms if mp.isfinite(pair[1])),
            key=lambda pair: pair[1] - pair[0],
        )
        return [log_t, -log_p]
    # An outcome that the targets rule out counts for nothing, at alpha = 0 too.
    exponents = [
        alpha * log_t + (1 - alpha) * log_p if mp.isfinite(log_t) else -mp.inf
        for log_p, log_t in logarithms
    ]
    top = max(exponents)
    if mp.isinf(top):
        # No outcome in common, or one that the model rules out.
        return [top / (alpha - 1)] + [mp.zero] * (len(exponents) + 2)
    # log(sum) = log(largest) + log(ratio), where the first is that of a product, and the second
    # reads a sum against 1.
    log_p, log_t = logarithms[exponents.index(top)]
    ratios = [mp.exp(x - top) for x in exponents]
    beyond = mp.fsum([*ratios, -1])
    slope = mp.log1p(beyond) / beyond if beyond else mp.one
    terms = [alpha * log_t, (1 - alpha) * log_p, *(slope * x for x in ratios), -slope]
    return [term / (alpha - 1) for term in terms]


def distillation_loss(student_logits, teacher_logits, *, temperature=mp.one):
    students, _, _ = softmax([x / temperature for x in student_logits])
    teachers, targets, _ = softmax([x / temperature for x in teacher_logits])
    return [
        *(-(temperature**2) * product(t, u) for t, u in zip(targets, teachers, strict=True)),
        *(temperature**2 * product(t, u) for t, u in zip(targets, students, strict=True)),
    ]


def _plogp(p):
    return product(p, mp.log(p)) if p >= 0 else mp.nan


def _sqrt(p):
    return mp.sqrt(p) if p >= 0 else mp.nan
