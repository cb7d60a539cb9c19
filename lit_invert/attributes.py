r"""Parameters from what is known of a site: a small network learns the map from attributes, through the frozen surrogate.

.. math:: \min_w \frac{1}{S} \sum_s L_s(\theta(a_s; w)) + \text{weight decay}

Attributes a are what one has for any place: plant type, mean temperature, soil. Sites are not fitted one by one; all of them train
one network, whose parameters go through the surrogate to the fluxes, and the gradient comes back the same way (differentiable
parameter learning). So a site without a tower has parameters as soon as it has attributes.

A handful of sites can teach a handful of numbers only, so much holds the network back: it starts at the prior everywhere, its
output stays inside the bounds, the problem's own prior term charges for the distance, weights decay, and training stops when what
it does not train on no longer gets better.

Source:
    Tsai et al. (2021), Nature Communications 12, 5988, doi:10.1038/s41467-021-26107-z.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Generator, Tensor, nn

from .driving import NoProfiler, fitting, without_banners
from .errors import ConfigError, ShapeError
from .losses.misfit import masked_mean_square
from .problem import InversionProblem

#: Sites below which none is held out: there would be too few left.
LEAST_SITES = 5
#: Share of the bounds, from each end, inside which the network starts where a prior lies on its bound.
EDGE = 0.02
_WATCHED = "watched/rmse"


@dataclass
class AttributeSettings:
    """How the network from attributes to parameters learns."""

    columns: list[str] = field(default_factory=list)
    """Columns of the catalogue that hold the attributes: numbers, or text, of which each word becomes a number of its own."""
    hidden: int = 16
    """Size of its hidden layer."""
    lr: float = 0.01
    """Learning rate of AdamW."""
    weight_decay: float = 0.01
    """Decay of its weights, as a share of the learning rate."""
    epochs: int = 300
    """Most passes over all sites."""
    batch: int = 32
    """Sites to one step."""
    patience: int = 30
    """Passes without improvement before it stops."""
    held_out: float = 0.2
    """Share of the sites that it does not train on, but stops by; they say what it is worth elsewhere. None of fewer than five."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: If one makes no sense.
        """
        for name in ("hidden", "lr", "epochs", "batch", "patience"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"`attributes.{name}` is {getattr(self, name)!r}, expected a positive number.")
        if self.weight_decay < 0 or not 0 <= self.held_out < 1:
            raise ConfigError(
                f"`attributes`: weight_decay is {self.weight_decay!r}, expected 0 or more; held_out is {self.held_out!r}, "
                "expected a share below 1."
            )


class AttributeNetwork(nn.Module):
    r"""Two layers from attributes to parameters inside their bounds.

    .. math:: \theta = l + (u - l)\,\mathrm{sigmoid}(\mathrm{logit}\,p + W_2 \tanh(W_1 a + b_1) + b_2)

    with attributes in units of their own spread, bounds l and u, and p where the prior lies between them. :math:`W_2` and
    :math:`b_2` start at zero, so every site starts at its prior. Where a bound is kept by the transform the output is added to the
    prior instead.

    Args:
        attributes: Those of the sites that it learns from, (S, A).
        lower: Lower bounds of theta, (P,); -inf where there is none.
        upper: Upper bounds.
        fixed: True for parameters that stay at their prior, (P,).
        hidden: Size of the hidden layer.
    """

    mean: Tensor
    std: Tensor
    lower: Tensor
    upper: Tensor
    fixed: Tensor

    def __init__(self, attributes: Tensor, lower: Tensor, upper: Tensor, fixed: Tensor, hidden: int = 16) -> None:
        super().__init__()
        std = attributes.std(0, correction=0)
        buffers = {
            "mean": attributes.mean(0),
            "std": torch.where(std > 0, std, 1.0),
            "lower": lower,
            "upper": upper,
            "fixed": fixed,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.first = nn.Linear(attributes.shape[1], hidden, dtype=attributes.dtype)
        self.last = nn.Linear(hidden, len(fixed), dtype=attributes.dtype)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, attributes: Tensor, prior: Tensor) -> Tensor:
        """Return theta, (B, P), of sites with these attributes, (B, A), and priors in the same coordinates, (1 or B, P)."""
        moved: Tensor = self.last(self.first((attributes - self.mean) / self.std).tanh())
        closed = self.lower.isfinite() & self.upper.isfinite() & ~self.fixed
        lower, width = torch.where(closed, self.lower, 0.0), torch.where(closed, self.upper - self.lower, 1.0)
        place = ((prior - lower) / width).clamp(EDGE, 1 - EDGE)
        inside = lower + width * torch.sigmoid(place.logit() + moved)
        theta = torch.where(closed, inside, (prior + moved).clamp(self.lower, self.upper))
        return torch.where(self.fixed, prior, theta)


@dataclass(frozen=True)
class LearnedParameters:
    """What was learnt."""

    network: AttributeNetwork
    """From attributes and priors to theta; of sites that it has never seen, too."""
    theta: Tensor
    """Parameters of the sites, (S, P), in the optimiser's coordinates."""
    held_out: Tensor
    """Sites that it did not train on."""
    history: pd.DataFrame
    """One row a pass: `epoch`, `loss` and the `watched` RMSE [gC m-2 d-1]."""
    interrupted: bool = False
    """Whether the user stopped it."""


class AttributeModule(LightningModule):
    """A network of attributes that a Trainer trains on mini-batches of sites.

    Args:
        problem: The problem of the sites.
        network: What learns.
        attributes: Attributes of all sites, (S, A).
        watched: Observed fluxes and mask of the days that it stops by, (S, T, V) each [gC m-2 d-1].
        settings: How it learns.
        target: The flux whose RMSE is watched.
    """

    attributes: Tensor
    observed: Tensor
    mask: Tensor

    def __init__(
        self,
        problem: InversionProblem,
        network: AttributeNetwork,
        attributes: Tensor,
        watched: tuple[Tensor, Tensor],
        settings: AttributeSettings,
        target: str,
    ) -> None:
        super().__init__()
        self.problem, self.network, self.settings = problem, network, settings
        place = problem.surrogate.spec.output_names.index(target)
        observed, mask = (value[..., place] for value in watched)
        for name, value in (("attributes", attributes), ("observed", torch.where(mask, observed, 0.0)), ("mask", mask)):
            self.register_buffer(name, value, persistent=False)
        self._place = place
        #: One row a pass.
        self.history: list[dict[str, float]] = []
        #: State of the network where the watched RMSE was lowest.
        self.best = copy.deepcopy(network.state_dict())
        self._lowest = torch.inf
        self._losses: list[Tensor] = []

    def theta(self, sites: Tensor) -> Tensor:
        """Return the parameters of these sites, (s, P)."""
        space = self.problem.space.rows(sites)
        theta: Tensor = self.network(self.attributes[sites], space.to_theta(space.priors))
        return theta

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss of these sites."""
        loss: Tensor = self.problem(self.theta(batch), batch).total.mean()
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Look at the watched days of these sites, and keep the network if they have never been met better."""
        simulated = self.problem.evaluate(self.theta(batch), batch).simulated[..., self._place]
        together = (simulated, self.observed[batch], self.mask[batch])
        rmse = masked_mean_square(*(value.reshape(1, -1) for value in together)).sqrt().item()
        if rmse < self._lowest:
            self._lowest, self.best = rmse, copy.deepcopy(self.network.state_dict())
        loss = torch.stack(self._losses).mean().item() if self._losses else torch.nan
        self.history.append({"epoch": len(self.history), "loss": loss, "watched": rmse})
        self._losses.clear()
        self.log(_WATCHED, rmse, batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build AdamW over the network alone."""
        return torch.optim.AdamW(self.network.parameters(), self.settings.lr, weight_decay=self.settings.weight_decay)


def learn_parameters(
    problem: InversionProblem,
    attributes: Tensor,
    settings: AttributeSettings | None = None,
    *,
    select: tuple[Tensor, Tensor] | None = None,
    target: str = "nep",
    trainer: Mapping[str, Any] | None = None,
) -> LearnedParameters:
    """Learn the map from attributes to parameters.

    Args:
        problem: The problem of S sites.
        attributes: Attributes of each, (S, A), in any units.
        settings: How it learns.
        select: Observed fluxes and mask of the `select` days, (S, T, V) each [gC m-2 d-1], by which it stops. Without them it stops
            by sites that it does not train on, and with fewer than five sites by nothing but its last pass.
        target: The flux that is watched.
        trainer: Arguments of Lightning's Trainer.

    Raises:
        ShapeError: If an attribute is missing or not finite.
        ConfigError: If bounds that name other parameters are not kept by the transform.
    """
    settings, sites = settings or AttributeSettings(), len(problem.mask)
    attributes = attributes.to(problem.space.prior)
    _check(problem, attributes, sites)
    held = _hold_out(sites, settings.held_out if select is None and sites >= LEAST_SITES else 0.0)
    trained = torch.tensor([site for site in range(sites) if site not in held.tolist()])
    network = _build_network(problem, attributes[trained], settings.hidden)
    watched = (problem.observed, problem.mask) if select is None else select
    module = AttributeModule(problem, network, attributes, watched, settings, target)
    stops = [EarlyStopping(_WATCHED, patience=settings.patience)] if len(held) or select is not None else []
    with without_banners(), fitting(cpu_threads=0):
        driver = _trainer(settings, trainer or {}, stops)
        driver.fit(module, _Batches(trained, settings.batch), _Batches(held if len(held) else trained, sites))
    if stops:
        network.load_state_dict(module.best)
    network.requires_grad_(False)
    history = pd.DataFrame(module.history, columns=["epoch", "loss", "watched"])
    return LearnedParameters(network, module.theta(torch.arange(sites)), held, history, driver.interrupted)


def _build_network(problem: InversionProblem, attributes: Tensor, hidden: int) -> AttributeNetwork:
    """Return the network at its start, with the bounds of the table in the optimiser's coordinates."""
    space = problem.space.rows(torch.zeros(1, dtype=torch.long))
    lower, upper = space.theta_bounds(space.to_theta(space.priors))
    return AttributeNetwork(attributes, lower[0], upper[0], space.fixed, hidden)


def _trainer(settings: AttributeSettings, arguments: Mapping[str, Any], stops: list[EarlyStopping]) -> Trainer:
    defaults = {
        "max_epochs": settings.epochs,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "profiler": NoProfiler(),
    }
    given = {key: value for key, value in arguments.items() if value is not None}
    return Trainer(**{**defaults, **given, "callbacks": [*stops, *given.get("callbacks", [])]})


class _Batches:
    """Mini-batches of sites, in a new order in each pass."""

    def __init__(self, sites: Tensor, size: int) -> None:
        self.sites, self.count = sites, -(-len(sites) // size)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.sites[torch.randperm(len(self.sites))].tensor_split(self.count))


def _hold_out(sites: int, share: float) -> Tensor:
    """Return some sites, always the same ones."""
    order = torch.randperm(sites, generator=Generator().manual_seed(sites))
    return order[: min(round(share * sites), sites - 1)].sort().values


def _check(problem: InversionProblem, attributes: Tensor, sites: int) -> None:
    if attributes.dim() != 2 or len(attributes) != sites:
        raise ShapeError(f"attributes have shape {tuple(attributes.shape)}, expected ({sites}, attributes): one row a site.")
    bad = (~attributes.isfinite()).nonzero()
    if len(bad):
        site, column = bad[0].tolist()
        raise ShapeError(
            f"attribute number {column + 1} of site number {site + 1} is {attributes[site, column].item()!r}, expected a finite "
            "number. Fill it, or leave the column or the site out."
        )
    if not problem.space.is_box:
        raise ConfigError(
            "attributes: parameters move inside bounds of their own, but the table has bounds that name other parameters. "
            "Use `constraints.transform: sigmoid`, which keeps them by itself."
        )
