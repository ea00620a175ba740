"""What several formulas need: products with 0, softplus and softmax without cancellation."""

from mpmath import mp


def product(count, factor):
    """count * factor, 0 for a count of 0 even where the factor is infinite."""
    return count * factor if count else mp.zero


def flat(x):
    """The numbers of nested lists."""
    return [entry for part in x for entry in flat(part)] if isinstance(x, list) else [x]


def softplus(x):
    """log(1 + e^x), which is -log sigmoid(-x)."""
    return max(x, mp.zero) + mp.log1p(mp.exp(-abs(x)))


def sigmoid(x):
    return 1 / (1 + mp.exp(-x)) if x > 0 else mp.exp(x) / (1 + mp.exp(x))


def softmax(logits):
    """Three lists over the classes: -log p, p and 1 - p, each as exact as the others.

    A logit of -inf has p = 0; a single logit of +inf has p = 1.
    """
    top = max(logits)
    if mp.isinf(top) and logits.count(mp.inf) != 1:
        logits, top = [mp.nan] * len(logits), mp.zero
    sizes = [mp.one if x == top else mp.exp(x - top) for x in logits]
    others = [mp.fsum(sizes[:c] + sizes[c + 1 :]) for c in range(len(sizes))]
    total = mp.fsum(sizes)
    return (
        [
            mp.log1p(rest / size) if size else mp.inf
            for rest, size in zip(others, sizes, strict=True)
        ],
        [size / total for size in sizes],
        [rest / total for rest in others],
    )


def one_hot(labels, classes):
    """Labels for each class: NaN for a class that does not exist, soft labels as they are."""
    if isinstance(labels, list):
        return flat(labels)
    if not 0 <= labels < classes:
        return [mp.nan] * classes
    return [mp.mpf(c == labels) for c in range(classes)]


def focal(surprisal, doubt, gamma):
    """doubt^gamma * surprisal, with doubt = 1 - p and surprisal = -log p, so 0 where p is 1."""
    return doubt**gamma * surprisal if surprisal else mp.zero


def smoothed(labels, smoothing, there=None):
    """Labels of which a part is shared among the classes that are there: all, if not told."""
    there = [True] * len(labels) if there is None else there
    shares = [smoothing / sum(there) if present else 0 for present in there]
    return [(1 - smoothing) * y + share for y, share in zip(labels, shares, strict=True)]


def hinge(margin, difference, power=1):
    """max(0, margin + difference)^power as two terms, a multiple of either summand."""
    length = margin + difference
    if mp.isinf(length) or length <= 0:
        return [mp.zero, max(length, mp.zero)]
    return [length ** (power - 1) * margin, length ** (power - 1) * difference]
