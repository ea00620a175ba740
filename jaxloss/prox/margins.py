"""Losses of the margin, the score times the sign of the label."""

from __future__ import annotations

from .elementwise import Loss, loss_of


def hinge_loss() -> Loss:
    """Hinge loss of a support vector machine.

        f(z)   max(0, 1 - z)
        prox   z + step  where z < 1 - step
               1         where 1 - step <= z <= 1
               z         elsewhere
        f*(y)  y where -1 <= y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere. In terms of the
    scores x the point is s prox(s x), and the conjugate f*(s y).

    Returns:
        The loss, a `Loss`.

    Reference:
        Cortes and Vapnik, "Support-vector networks", 1995, https://doi.org/10.1007/BF00994018.

    Example:
        >>> hinge_loss().prox(jnp.array([0.75, 0.75, 3.0]), jnp.array([1, -1, 1]), step=0.5)
        Array([1.  , 0.25, 3.  ], dtype=float32)
    """
    return loss_of("hinge_loss")


def squared_hinge_loss() -> Loss:
    """Squared hinge loss.

        f(z)   max(0, 1 - z)^2
        prox   (z + 2 step) / (1 + 2 step) where z < 1, else z
        f*(y)  y + y^2 / 4 where y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere.

    Returns:
        The loss, a `Loss`.

    Reference:
        Chang, Hsieh and Lin, "Coordinate descent method for large-scale L2-loss linear support
        vector machines", 2008, https://www.jmlr.org/papers/v9/chang08a.html.

    Example:
        >>> squared_hinge_loss().prox(jnp.array([-1.0, 3.0]), jnp.array([1, 1]), step=0.5)
        Array([0., 3.], dtype=float32)
    """
    return loss_of("squared_hinge_loss")


def perceptron_loss() -> Loss:
    """Perceptron loss: a hinge at 0.

        f(z)   max(0, -z)
        prox   z + step  where z < -step
               0         where -step <= z <= 0
               z         elsewhere
        f*(y)  0 where -1 <= y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere.

    Returns:
        The loss, a `Loss`.

    Reference:
        Rosenblatt, "The perceptron: a probabilistic model for information storage and
        organization in the brain", 1958, https://doi.org/10.1037/h0042519.

    Example:
        >>> perceptron_loss().prox(jnp.array([-0.25, -2.0, 3.0]), jnp.array([1, 1, 1]), step=0.5)
        Array([ 0. , -1.5,  3. ], dtype=float32)
    """
    return loss_of("perceptron_loss")


def sparsemax_loss() -> Loss:
    """Binary sparsemax loss: a hinge whose corner is rounded off by a parabola.

        f(z)   0                          where z >= 1
               (1 - z)^2 / 4              between
               -z                         where z <= -1
        prox   z                          where z >= 1
               (2 z + step) / (2 + step)  between
               z + step                   where z <= -1 - step
        f*(y)  y + y^2 where -1 <= y <= 0, else inf

    of the margin z = s x: s is 1 where the target is above 0 and -1 elsewhere.

    Returns:
        The loss, a `Loss`.

    Reference:
        Blondel, Martins and Niculae, "Learning with Fenchel-Young losses", 2020, section 4.4,
        https://www.jmlr.org/papers/v21/19-021.html.

    Example:
        >>> sparsemax_loss().prox(jnp.array([0.0, -4.0, 3.0]), jnp.array([1, 1, 1]), step=2.0)
        Array([ 0.5, -2. ,  3. ], dtype=float32)
    """
    return loss_of("sparsemax_loss")
