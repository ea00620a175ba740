"""Proximal operators of losses and penalties, for objectives with corners.

    prox(x) = argmin over p of  f(p) + |p - x|^2 / (2 step)

A gradient step jumps over a corner for ever; a proximal step comes to rest on it. So parameters
become exactly 0, constraints hold exactly, and robust losses are minimised to the last digit.

Losses work element by element and have the names they have in `jaxloss`: `huber_loss(delta=0.5)`.
Penalties take trees of parameters: `l1(0.1)`. Both are objects with five methods: the function
itself, `prox`, `envelope`, `conjugate` and `conjugate_prox`. `proximal_step` and
`proximal_gradient` bring a penalty into an optax training loop.

Convex losses that are not here have no proximal operator in closed form: `log_cosh`,
`pseudo_huber_loss`, cross-entropy and the other logistic losses.
"""

import typing as _typing
from types import FunctionType as _FunctionType

from .descent import proximal_gradient as proximal_gradient
from .descent import proximal_step as proximal_step
from .elementwise import Loss as Loss
from .losses import epsilon_insensitive_loss as epsilon_insensitive_loss
from .losses import expectile_loss as expectile_loss
from .losses import huber_loss as huber_loss
from .losses import l1_loss as l1_loss
from .losses import l2_loss as l2_loss
from .losses import quantile_loss as quantile_loss
from .losses import smooth_l1_loss as smooth_l1_loss
from .losses import squared_epsilon_insensitive_loss as squared_epsilon_insensitive_loss
from .losses import squared_error as squared_error
from .margins import hinge_loss as hinge_loss
from .margins import perceptron_loss as perceptron_loss
from .margins import sparsemax_loss as sparsemax_loss
from .margins import squared_hinge_loss as squared_hinge_loss
from .norms import elastic_net as elastic_net
from .norms import group_lasso as group_lasso
from .norms import l1 as l1
from .norms import l2 as l2
from .penalties import Penalty as Penalty
from .penalties import masked as masked
from .sets import box as box
from .sets import l1_ball as l1_ball
from .sets import l2_ball as l2_ball
from .sets import non_negative as non_negative
from .sets import simplex as simplex

# As in the package itself: type checkers read the imports, pickles and `help` the public path.
if not _typing.TYPE_CHECKING:
    __all__ = sorted(
        name
        for name, value in list(globals().items())
        if not name.startswith("_") and isinstance(value, _FunctionType | type)
    )
    for _name in __all__:
        globals()[_name].__module__ = __name__

    def __dir__() -> list[str]:
        return [*__all__, *(name for name in globals() if name.startswith("__"))]
