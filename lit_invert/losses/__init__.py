"""Loss terms: the misfit, the prior, the boundary hinge, and the base class that plugins extend."""

from .base import Evaluation as Evaluation
from .base import LossTerm as LossTerm
from .base import SquaredTerm as SquaredTerm
from .base import Tangent as Tangent
from .boundary import Boundary as Boundary
from .misfit import Misfit as Misfit
from .prior import Prior as Prior
