"""Loss functions for JAX: pure, compiled, right at the edges."""

from ._quantile import epsilon_insensitive_loss as epsilon_insensitive_loss
from ._quantile import expectile_loss as expectile_loss
from ._quantile import quantile_loss as quantile_loss
from ._quantile import squared_epsilon_insensitive_loss as squared_epsilon_insensitive_loss
from ._reduce import Mean as Mean
from ._reduce import reduce as reduce
from ._regression import absolute_percentage_error as absolute_percentage_error
from ._regression import huber_loss as huber_loss
from ._regression import l1_loss as l1_loss
from ._regression import l2_loss as l2_loss
from ._regression import log_cosh as log_cosh
from ._regression import smooth_l1_loss as smooth_l1_loss
from ._regression import squared_error as squared_error
from ._regression import squared_logarithmic_error as squared_logarithmic_error
from ._robust import cauchy_loss as cauchy_loss
from ._robust import geman_mcclure_loss as geman_mcclure_loss
from ._robust import pseudo_huber_loss as pseudo_huber_loss
from ._robust import tukey_biweight_loss as tukey_biweight_loss
from ._robust import welsch_loss as welsch_loss
