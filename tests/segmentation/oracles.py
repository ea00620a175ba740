"""One image: lists of pixels, however nested, of lists over the classes.

Targets are of that shape, or a map of the numbers of the classes; with a single class a map holds
the targets themselves. Only the generalised Dice couples the images of a batch, and takes one.
"""

from mpmath import mp

from tests.laws.arithmetic import flat, one_hot, product, sigmoid, softmax
from tests.laws.slopes import slopes


def dice_loss(predictions, targets, **options):
    return _tversky(predictions, targets, **options)


def tversky_loss(predictions, targets, **options):
    return _tversky(predictions, targets, **options)


def focal_tversky_loss(predictions, targets, *, gamma=0.75, **options):
    return _tversky(predictions, targets, gamma=gamma, **options)


def jaccard_loss(predictions, targets, **options):
    return _tversky(predictions, targets, alpha=1, beta=1, **options)


def binary_dice_loss(predictions, targets, *, smooth=mp.one, apply_sigmoid=True, **options):
    p, t = flat(predictions), flat(targets)
    p = [sigmoid(x) for x in p] if apply_sigmoid else p
    return _overlap_loss(p, t, smooth, 0.5, 0.5, **options)


def generalized_dice_loss(
    predictions,
    targets,
    *,
    class_weighting="square",
    smooth=mp.zero,
    apply_softmax=True,
    ignore_background=False,
):
    columns = _columns(_probabilities(predictions, apply_softmax))
    labels = _columns(_one_hot(targets, predictions))
    if ignore_background and len(columns) > 1:
        columns, labels = columns[1:], labels[1:]
    least = min((mp.fsum(t) for t in labels if mp.fsum(t) > 0), default=mp.one)
    power = {"square": 2, "simple": 1, "uniform": 0}[class_weighting]
    found, whole = mp.zero, 2 * smooth
    for p, t in zip(columns, labels, strict=True):
        weight = (least / mp.fsum(t) if mp.fsum(t) > 0 else mp.one) ** power
        both = mp.fsum(a * b for a, b in zip(p, t, strict=True))
        found += weight * both
        whole += weight * (mp.fsum(p) + mp.fsum(t))
    return [1 - (2 * found + 2 * smooth) / whole if whole else mp.zero]


def matthews_correlation_loss(
    predictions,
    targets,
    *,
    class_weights=None,
    apply_softmax=True,
    ignore_background=False,
    class_reduction="mean",
):
    probabilities = _columns(_probabilities(predictions, apply_softmax))
    labels = _columns(_one_hot(targets, predictions))
    losses = []
    for p, t in zip(probabilities, labels, strict=True):
        # Pearson's correlation of predictions and labels, with binomial variances.
        n, sum_p, sum_t = len(p), mp.fsum(p), mp.fsum(t)
        covariance = n * mp.fsum(a * b for a, b in zip(p, t, strict=True)) - sum_p * sum_t
        variances = sum_p * (n - sum_p) * sum_t * (n - sum_t)
        losses.append(1 - covariance / mp.sqrt(variances) if variances else mp.one)
    return _of_classes(losses, labels, class_weights, ignore_background, class_reduction)


def multiclass_generalized_dice_loss(
    predictions,
    targets,
    *,
    smooth=mp.one,
    apply_softmax=True,
    ignore_background=False,
    epsilon=1e-7,
):
    """A batch of images, or one image given as a list of pixels."""
    if not isinstance(predictions[0][0], list):
        predictions, targets = [predictions], [targets]
    # Weights 1 / (frequency^2 + epsilon) over the batch, of mean 1.
    maps = [_one_hot(t, p) for p, t in zip(predictions, targets, strict=True)]
    frequencies = [mp.fsum(column) for column in _columns([row for t in maps for row in t])]
    weights = [1 / (frequency**2 + epsilon) for frequency in frequencies]
    mean = mp.fsum(weights) / len(weights)
    return [
        term / len(predictions)
        for p, t in zip(predictions, targets, strict=True)
        for term in _tversky(
            p,
            t,
            class_weights=[weight / mean for weight in weights],
            smooth=smooth,
            apply_softmax=apply_softmax,
            ignore_background=ignore_background,
        )
    ]


@slopes(constant=(1,))
def lovasz_hinge_loss(logits, labels):
    positive = [t > 0 for t in flat(labels)]
    margins = [1 - x if t else 1 + x for x, t in zip(flat(logits), positive, strict=True)]
    return _lovasz([max(m, mp.zero) for m in margins], positive)


@slopes(constant=(1,))
def lovasz_softmax_loss(
    predictions,
    labels,
    *,
    apply_softmax=True,
    classes="present",
    ignore_background=False,
    class_weights=None,
):
    probabilities = _probabilities(predictions, apply_softmax)
    targets = _one_hot(labels, predictions)
    if any(mp.isnan(t) for t in flat(targets)):
        return [mp.nan]
    losses = []
    columns = _columns(probabilities), _columns(targets)
    weights = [mp.one] * len(columns[0]) if class_weights is None else class_weights
    for c, (p, t, weight) in enumerate(zip(*columns, weights, strict=True)):
        positive = [x > 0 for x in t]
        if c == 0 and ignore_background and len(weights) > 1:
            continue
        chosen = range(len(weights)) if isinstance(classes, str) else classes
        if c in chosen and (any(positive) or classes != "present"):
            errors = [1 - x if y else x for x, y in zip(p, positive, strict=True)]
            losses.append([product(weight, term) for term in _lovasz(errors, positive)])
    return [term / len(losses) for terms in losses for term in terms]


def _tversky(
    predictions,
    targets,
    *,
    class_weights=None,
    smooth=mp.one,
    alpha=0.5,
    beta=0.5,
    gamma=mp.one,
    apply_softmax=True,
    class_reduction="mean",
    ignore_background=False,
    **options,
):
    probabilities = _columns(_probabilities(predictions, apply_softmax))
    targets = _columns(_one_hot(targets, predictions))
    losses = [
        mp.fsum(_overlap_loss(p, t, smooth, alpha, beta, **options)) ** gamma
        for p, t in zip(probabilities, targets, strict=True)
    ]
    return _of_classes(losses, targets, class_weights, ignore_background, class_reduction)


def _of_classes(losses, targets, class_weights, ignore_background, class_reduction):
    if class_reduction not in ("mean", "sum", "present"):
        raise ValueError(f"no single number with class_reduction={class_reduction}")
    if class_weights is not None:
        losses = [product(w, loss) for w, loss in zip(class_weights, losses, strict=True)]
    if ignore_background and len(losses) > 1:
        losses, targets = losses[1:], targets[1:]
    if class_reduction == "present":
        there = [any(x > 0 for x in t) for t in targets]
        losses = [loss for loss, some in zip(losses, there, strict=True) if some] or [mp.zero]
    return [loss if class_reduction == "sum" else loss / len(losses) for loss in losses]


def _overlap_loss(
    p,
    t,
    smooth,
    alpha,
    beta,
    *,
    smooth_denominator=None,
    squared_predictions=False,
    log_loss=False,
):
    """1 - (I + s) / (I + alpha FP + beta FN + d), as one fraction, or two if d is not s."""
    both = mp.fsum(a * b for a, b in zip(p, t, strict=True))
    power = 2 if squared_predictions else 1
    misses = alpha * (mp.fsum(a**power for a in p) - both)
    misses += beta * (mp.fsum(b**power for b in t) - both)
    other = smooth if smooth_denominator is None else smooth_denominator
    whole = both + misses + other
    if log_loss:
        return [mp.log(whole / (both + smooth)) if whole else mp.zero]
    return [misses / whole, (other - smooth) / whole] if other != smooth else [misses / whole]


def _lovasz(errors, positive):
    """Each error times the step of the Jaccard loss as it is included, the largest first."""
    terms, before = [mp.zero] * len(errors), mp.zero
    positives = sum(positive)
    hits, extra = positives, 0
    for i in sorted(range(len(errors)), key=lambda i: errors[i], reverse=True):
        hits, extra = hits - positive[i], extra + (not positive[i])
        after = 1 - mp.mpf(hits) / (positives + extra)
        terms[i] = product(after - before, errors[i])
        before = after
    return terms


def _probabilities(predictions, from_logits):
    rows = _rows(predictions)
    if not from_logits:
        return rows
    return [[sigmoid(*row)] if len(row) == 1 else softmax(row)[1] for row in rows]


def _one_hot(targets, predictions):
    rows = _rows(predictions)
    if _depth(targets) == _depth(predictions):
        return _rows(targets)
    if len(rows[0]) == 1:
        return [[mp.mpf(t)] for t in flat(targets)]
    return [one_hot(t, len(rows[0])) for t in flat(targets)]


def _rows(x):
    """The innermost lists."""
    return [row for part in x for row in _rows(part)] if isinstance(x[0], list) else [x]


def _columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def _depth(x):
    return 1 + _depth(x[0]) if isinstance(x, list) else 0
