"""The laws of jaxloss as functions, to be run on any loss.

`check_loss(loss, (REAL, REAL))` runs them and returns a `Report`, which says in words what is
wrong and which input shows it; `laws_for` gives them one by one, for a test. The tests of jaxloss
itself are these. This module is imported by itself: `import jaxloss` does not.
"""

from .check import LAWS as LAWS
from .check import Finding as Finding
from .check import LossTest as LossTest
from .check import Report as Report
from .check import check_loss as check_loss
from .check import laws_for as laws_for
from .kinds import ABOVE_MINUS_ONE as ABOVE_MINUS_ONE
from .kinds import CLASS as CLASS
from .kinds import COUNT as COUNT
from .kinds import LABELS as LABELS
from .kinds import LOG_PROBABILITIES as LOG_PROBABILITIES
from .kinds import LOGARITHM as LOGARITHM
from .kinds import LOGITS as LOGITS
from .kinds import MODERATE as MODERATE
from .kinds import NON_NEGATIVE as NON_NEGATIVE
from .kinds import POSITIVE as POSITIVE
from .kinds import PROBABILITIES as PROBABILITIES
from .kinds import REAL as REAL
from .kinds import SIGN as SIGN
from .kinds import SIGNS as SIGNS
from .kinds import SOFT_LABELS as SOFT_LABELS
from .kinds import Kind as Kind

__all__ = [
    "ABOVE_MINUS_ONE",
    "CLASS",
    "COUNT",
    "LABELS",
    "LAWS",
    "LOGARITHM",
    "LOGITS",
    "LOG_PROBABILITIES",
    "MODERATE",
    "NON_NEGATIVE",
    "POSITIVE",
    "PROBABILITIES",
    "REAL",
    "SIGN",
    "SIGNS",
    "SOFT_LABELS",
    "Finding",
    "Kind",
    "LossTest",
    "Report",
    "check_loss",
    "laws_for",
]

# Pickles, tracebacks and `help` name the public path, not the file.
for _public in (Finding, Kind, LossTest, Report, check_loss, laws_for):
    _public.__module__ = __name__


def __dir__() -> list[str]:
    return __all__
