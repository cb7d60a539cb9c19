"""How an inversion is done, as the block `inversion:` of the config says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .errors import ConfigError

#: The weight of a prior that is derived from the noise of the data.
DERIVED: Literal["derived"] = "derived"
#: Kinds of places to start from that need no file.
PRIOR, LATIN_HYPERCUBE = "prior", "lhs"


@dataclass
class ClipSettings:
    """Clipping to the table's bounds in physical space after each step."""

    enabled: bool = True
    """Whether parameters are clipped."""


@dataclass
class StopSettings:
    """Early stopping, by Lightning's own callback, looked at after each epoch."""

    enabled: bool = True
    """Whether a fit may stop before `max_iters`."""
    monitor: Literal["auto", "select", "loss"] = "auto"
    """What must go on falling: the RMSE on the `select` days, or the total loss; `auto` is `select` if there are such days."""
    patience: int = 5
    """Epochs without improvement before the fit stops."""
    min_delta: float = 0.0
    """Smallest fall that counts as improvement."""


@dataclass
class ConvergenceSettings:
    """When `lbfgs`, `levenberg_marquardt` and `quasi_newton` have converged; each test alone is enough."""

    gradient: float = 1e-5
    """Largest fall of the loss that one parameter alone still promises, as the root of its share [-]."""
    step: float = 1e-6
    """Length of a step, as a share of theta [-]."""
    loss: float = 1e-6
    """Fall of the loss in each of two steps in a row, as a share of it [-]."""
    max_seconds: float | None = None
    """Wall time after which they stop without having converged [s]; `trainer.max_time` limits every solver."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: If a tolerance is negative, or there is no time.
        """
        for name in ("gradient", "step", "loss"):
            if getattr(self, name) < 0:
                raise ConfigError(f"`inversion.convergence.{name}` is {getattr(self, name)!r}, expected 0 or more.")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise ConfigError(f"`inversion.convergence.max_seconds` is {self.max_seconds!r}, expected a positive number or null.")


@dataclass
class InversionSettings:
    """How static parameters are inverted."""

    lr: float = 0.02
    """Learning rate of the solver, in the optimiser's coordinates."""
    max_iters: int | None = None
    """Most iterations; sets the Trainer's `max_steps`. 500 when neither is given."""
    lambda_prior: float | Literal["derived"] = 1.0
    """Weight of the prior: of the squared distance from the prior in the surrogate's scaled space; or `derived`: that of
    the squared distance in the prior's own standard deviations, sigma^2 / n_eff, from the noise of the one site."""
    use_multi_output_loss: bool = False
    """Whether observed GPP, NPP and Rh count too, with the target heaviest."""
    target_variable: str = "nep"
    """The flux that is fitted, shown and selected on."""
    use_mask: bool = True
    """Whether only days that pass the quality rules (or the given mask) count; if not, every day with a value does."""
    clip_raw_params: ClipSettings = field(default_factory=ClipSettings)
    """Clipping in physical space."""
    solver: str = "adam"
    """Name of the solver: `adam`, `adamw`, `lbfgs`, `levenberg_marquardt`, `quasi_newton`, a plugin's, or `auto`."""
    convergence: ConvergenceSettings = field(default_factory=ConvergenceSettings)
    """Tolerances of the solvers that know when they have converged."""
    starts: int = 1
    """Places to start from, for those solvers; the first is the prior."""
    start_points: str = PRIOR
    """Where the others are: `prior` (draws from it), `lhs` (a Latin hypercube over the bounds), or the path of a CSV file with a
    column a parameter and a row a start, filled up with draws from the prior."""
    halving: bool = True
    """Whether the worse half of the starts is dropped after every few steps, until one is left; if not, all of them run to their
    end, and the best on the `select` days is kept."""
    coarse_start: bool = True
    """Whether those solvers take their first steps on the first years of a long record alone."""
    kernel: Literal["auto", "native", "numba", "torch", "none"] = "auto"
    """What runs an LSTM of this package on the CPU: compiled C, numba, tangents in plain PyTorch, none of these, or the fastest
    that works here."""
    arithmetic: Literal["auto", "float32", "split", "bfloat16"] = "auto"
    """Numbers of the compiled kernel's Jacobian; simulations and gradients are always float32. `auto`: the fastest that loses
    nothing beside float32."""
    kernel_threads: int = 0
    """Threads of a kernel, and of batches of differences; 0 for one a processor that this process may use."""
    output_weights: dict[str, float] | None = None
    """Weight of each flux when several are used; `nep` 1.0 and the others 0.2 by default."""
    use_uncertainty: bool = True
    """Whether days count by their stated uncertainty, where the data give one."""
    sigma_floor: float = 0.5
    """Model error that is added to the stated uncertainty of a day in quadrature [gC m-2 d-1]."""
    cpu_threads: int = 1
    """Threads of a fit on the CPU: one LSTM runs no faster with two, and far slower where they must share; 0 leaves torch's."""
    early_stopping: StopSettings = field(default_factory=StopSettings)
    """Early stopping, and which iterate is kept as the best."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: If a value makes no sense; the message names its key.
        """
        if self.lr <= 0:
            raise ConfigError(f"`inversion.lr` is {self.lr!r}, expected a positive number.")
        if self.max_iters is not None and self.max_iters < 1:
            raise ConfigError(f"`inversion.max_iters` is {self.max_iters!r}, expected 1 or more iterations.")
        weight = 0.0 if self.lambda_prior == DERIVED else self.lambda_prior
        if not isinstance(weight, (int, float)) or weight < 0:
            raise ConfigError(f"`inversion.lambda_prior` is {weight!r}, expected a number, 0 or more, or {DERIVED!r}.")
        if self.sigma_floor < 0:
            raise ConfigError(f"`inversion.sigma_floor` is {self.sigma_floor!r}, expected 0 or more gC m-2 d-1.")
        if self.starts < 1:
            raise ConfigError(f"`inversion.starts` is {self.starts!r}, expected 1 or more.")
        if self.start_points != PRIOR and self.starts == 1:
            raise ConfigError(f"`inversion.start_points` is {self.start_points!r}, but `inversion.starts` is 1: the prior alone.")
        if self.kernel_threads < 0:
            raise ConfigError(f"`inversion.kernel_threads` is {self.kernel_threads!r}, expected 0 or more threads.")
        if self.cpu_threads < 0:
            raise ConfigError(f"`inversion.cpu_threads` is {self.cpu_threads!r}, expected 0 or more threads.")
        if self.early_stopping.patience < 1:
            raise ConfigError(f"`inversion.early_stopping.patience` is {self.early_stopping.patience!r}, expected 1 or more.")

    @property
    def start_file(self) -> Path | None:
        """The user's own starts, if there are any."""
        return None if self.start_points in (PRIOR, LATIN_HYPERCUBE) else Path(self.start_points)


@dataclass
class UncertaintySettings:
    """What is said of the parameters beyond their optimum, and by which method."""

    method: Literal["none", "laplace", "population", "rml", "nuts"] = "none"
    """How the posterior is drawn from: `laplace` (a Gaussian at its mode, cut to the bounds), `population` (draws that move until
    they have its shape), `rml` (randomised maximum likelihood), `nuts` (a sampler that follows gradients), or not at all."""
    draws: int = 500
    """Draws from the posterior."""
    profiles: list[str] = field(default_factory=list)
    """Parameters whose profile likelihood is taken."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: If the draws are too few for a 5-95 % interval, or profiles are asked for without a method.
        """
        if self.draws < 20:
            raise ConfigError(f"`uncertainty.draws` is {self.draws!r}, expected 20 or more.")
        if self.profiles and self.method == "none":
            raise ConfigError("`uncertainty.profiles` names parameters, but `uncertainty.method` is none. Use method: laplace.")


@dataclass
class ScaleSettings:
    """How many sites are worked through; one site needs none of it."""

    engine: Literal["local", "ray"] = "local"
    """Where batches of sites run: in this process, or as tasks of Ray on cores, GPUs or a cluster."""
    ray_address: str | None = None
    """Address of a running cluster, such as `auto` or `ray://head:10001`; Ray is started on this machine when omitted."""
    workers: int = 0
    """Batches that Ray runs at once; 0 for one a processor."""
    batch_sites: int = 64
    """Most sites of a batch."""
    memory_gb: float = 2.0
    """Memory that a batch may take, by a rough count that errs on the large side [GB]."""
    retries: int = 3
    """How often Ray runs a batch again whose worker was lost."""
    site_folders: bool = False
    """Whether each site has a folder with everything that a fit of one site leaves."""
    parquet: bool = False
    """Whether the tables of results are written as Parquet, too."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: If a number is too small.
        """
        for name, least in (("workers", 0), ("batch_sites", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"`scale.{name}` is {getattr(self, name)!r}, expected {least} or more.")
        if self.memory_gb <= 0:
            raise ConfigError(f"`scale.memory_gb` is {self.memory_gb!r}, expected a positive number.")
