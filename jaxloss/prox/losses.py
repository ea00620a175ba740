"""Losses of the error, the prediction less the target."""

from __future__ import annotations

from jax.typing import ArrayLike

from .elementwise import Loss, loss_of


def l1_loss() -> Loss:
    """L1 loss, the absolute error, whose proximal operator is soft thresholding.

        f(e)   |e|
        prox   0 where |e| < step, else e - step sign(e)
        f*(y)  0 where |y| <= 1, else inf

    of the error e = predictions - targets, to which `prox` adds the targets again. A target
    within a step is hit exactly. The envelope is `jaxloss.huber_loss(delta=step) / step`.

    Returns:
        The loss, a `Loss`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.5.2,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> l1_loss().prox(jnp.array([2.0, -0.5, 0.25]), step=0.5)
        Array([1.5, 0. , 0. ], dtype=float32)
    """
    return loss_of("l1_loss")


def l2_loss() -> Loss:
    """L2 loss, half the squared error.

        f(e)   e^2 / 2
        prox   e / (1 + step)
        f*(y)  y^2 / 2

    of the error e = predictions - targets. The envelope is e^2 / (2 (1 + step)).

    Returns:
        The loss, a `Loss`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.1.1,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> l2_loss().prox(jnp.array([2.0, -4.0]), step=3.0)
        Array([ 0.5, -1. ], dtype=float32)
    """
    return loss_of("l2_loss")


def squared_error() -> Loss:
    """Squared error, twice the L2 loss.

        f(e)   e^2
        prox   e / (1 + 2 step)
        f*(y)  y^2 / 4

    of the error e = predictions - targets. The envelope is e^2 / (1 + 2 step).

    Returns:
        The loss, a `Loss`.

    Reference:
        Parikh and Boyd, "Proximal algorithms", 2014, section 6.1.1,
        https://doi.org/10.1561/2400000003.

    Example:
        >>> squared_error().prox(jnp.array([2.0, -4.0]), step=1.5)
        Array([ 0.5, -1. ], dtype=float32)
    """
    return loss_of("squared_error")


def huber_loss(*, delta: ArrayLike = 1.0) -> Loss:
    """Huber loss: L2 for small errors, a line for large ones.

        f(e)   e^2 / 2                  where |e| < delta
               delta (|e| - delta / 2)  elsewhere
        prox   e / (1 + step)           where |e| < delta (1 + step)
               e - step delta sign(e)   elsewhere
        f*(y)  y^2 / 2 where |y| <= delta, else inf

    of the error e = predictions - targets. The envelope is the Huber loss of delta (1 + step),
    divided by 1 + step.

    Args:
        delta: Where the square turns into a line, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Beck, "First-order methods in optimization", 2017, example 6.54 and theorem 6.45,
        https://doi.org/10.1137/1.9781611974997.

    Example:
        >>> huber_loss(delta=1.0).prox(jnp.array([1.0, 5.0]), step=1.0)
        Array([0.5, 4. ], dtype=float32)
    """
    return loss_of("huber_loss", delta=delta)


def smooth_l1_loss(*, beta: ArrayLike = 1.0) -> Loss:
    """Smooth L1 loss: L1 with its corner rounded off within beta of the target.

        f(e)   e^2 / (2 beta)           where |e| < beta
               |e| - beta / 2           elsewhere
        prox   beta e / (beta + step)   where |e| < beta + step
               e - step sign(e)         elsewhere
        f*(y)  beta y^2 / 2 where |y| <= 1, else inf

    of the error e = predictions - targets. The envelope is the smooth L1 loss of beta + step.

    Args:
        beta: Where the square turns into a line, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Beck, "First-order methods in optimization", 2017, example 6.54,
        https://doi.org/10.1137/1.9781611974997.

    Example:
        >>> smooth_l1_loss(beta=1.0).prox(jnp.array([1.0, 5.0]), step=1.0)
        Array([0.5, 4. ], dtype=float32)
    """
    return loss_of("smooth_l1_loss", beta=beta)


def quantile_loss(*, quantile: ArrayLike) -> Loss:
    """Quantile (pinball) loss: soft thresholding with a threshold of its own on either side.

        f(e)   (1 - q) e where e > 0, else -q e
        prox   e - step (1 - q)  where e > step (1 - q)
               e + step q        where e < -step q
               0                 between
        f*(y)  0 where -q <= y <= 1 - q, else inf

    of the error e = predictions - targets.

    Args:
        quantile: q, from 0 to 1 and NaN outside. An array broadcasts against the data.

    Returns:
        The loss, a `Loss`.

    Reference:
        Koenker and Bassett, "Regression quantiles", 1978, https://doi.org/10.2307/1913643;
        Gu, Fan, Kong, Ma and Zou, "ADMM for high-dimensional sparse penalized quantile
        regression", 2018, https://doi.org/10.1080/00401706.2017.1345703.

    Example:
        >>> quantile_loss(quantile=0.75).prox(jnp.array([2.0, -2.0, 0.1]), step=1.0)
        Array([ 1.75, -1.25,  0.  ], dtype=float32)
    """
    return loss_of("quantile_loss", quantile=quantile)


def expectile_loss(*, expectile: ArrayLike) -> Loss:
    """Expectile loss: a square with a factor of its own on either side.

        f(e)   c e^2 with c = 1 - q where e > 0, else q
        prox   e / (1 + 2 c step)
        f*(y)  y^2 / (4 c) with c = 1 - q where y > 0, else q

    of the error e = predictions - targets.

    Args:
        expectile: q, from 0 to 1 and NaN outside. An array broadcasts against the data.

    Returns:
        The loss, a `Loss`.

    Reference:
        Newey and Powell, "Asymmetric least squares estimation and testing", 1987,
        https://doi.org/10.2307/1911031.

    Example:
        >>> expectile_loss(expectile=0.75).prox(jnp.array([3.0, -5.0]), step=1.0)
        Array([ 2., -2.], dtype=float32)
    """
    return loss_of("expectile_loss", expectile=expectile)


def epsilon_insensitive_loss(*, epsilon: ArrayLike = 0.1) -> Loss:
    """Epsilon-insensitive loss of support vector regression.

        f(e)   max(0, |e| - epsilon)
        prox   e                     where |e| <= epsilon
               epsilon sign(e)       where |e| <= epsilon + step
               e - step sign(e)      elsewhere
        f*(y)  epsilon |y| where |y| <= 1, else inf

    of the error e = predictions - targets.

    Args:
        epsilon: The error that costs nothing, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Vapnik, "The Nature of Statistical Learning Theory", 1995, section 6.1.

    Example:
        >>> loss = epsilon_insensitive_loss(epsilon=0.5)
        >>> loss.prox(jnp.array([0.25, 1.0, -3.0]), step=1.0)
        Array([ 0.25,  0.5 , -2.  ], dtype=float32)
    """
    return loss_of("epsilon_insensitive_loss", epsilon=epsilon)


def squared_epsilon_insensitive_loss(*, epsilon: ArrayLike = 0.1) -> Loss:
    """Squared epsilon-insensitive loss of support vector regression.

        f(e)   max(0, |e| - epsilon)^2
        prox   e                      where |e| <= epsilon
               (e + 2 step epsilon sign(e)) / (1 + 2 step)
        f*(y)  epsilon |y| + y^2 / 4

    of the error e = predictions - targets.

    Args:
        epsilon: The error that costs nothing, in the unit of the targets. NaN below 0.

    Returns:
        The loss, a `Loss`.

    Reference:
        Lee, Hsieh and Huang, "epsilon-SSVR: a smooth support vector machine for
        epsilon-insensitive regression", 2005, https://doi.org/10.1109/TKDE.2005.77.

    Example:
        >>> loss = squared_epsilon_insensitive_loss(epsilon=0.5)
        >>> loss.prox(jnp.array([0.25, 2.0, -3.5]), step=0.5)
        Array([ 0.25,  1.25, -2.  ], dtype=float32)
    """
    return loss_of("squared_epsilon_insensitive_loss", epsilon=epsilon)
