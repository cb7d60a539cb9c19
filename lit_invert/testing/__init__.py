"""What plugin authors run on their own work: a toy inversion with a known answer, and checks of the contracts.

:func:`check_loss_term` and :func:`check_constraint` hold a term or a transform to what the product relies on, and raise an
`AssertionError` that says which promise is broken. The toy is for their own tests, and for ours.
"""

from .constraints import check_constraint as check_constraint
from .loss_terms import check_loss_term as check_loss_term
from .toy import ToyNetwork as ToyNetwork
from .toy import toy_forcing as toy_forcing
from .toy import toy_problem as toy_problem
from .toy import toy_surrogate as toy_surrogate
from .toy import toy_table as toy_table
from .toy import toy_truth as toy_truth
