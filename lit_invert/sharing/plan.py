r"""Who shares what: the plan by which a few shared values and many local ones become the parameters of all sites.

The *shared vector* :math:`\gamma` holds one value for each `global` parameter, then one for each group of each `group` parameter.
What is left of theta is *local*: a value of each site, of kind `site` or `hierarchical`. So P parameters of S sites have

.. math:: G = P_{global} + N_{groups} P_{group}

shared values, and an index (S, Q) says which of them each site uses in each of its Q shared parameters. Everything else is
indexing: spreading values to sites, and gathering the sites' gradients and curvatures back as sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError, suggest
from ..parameters import ParameterTable
from .settings import Kind, SharingSettings


@dataclass(frozen=True)
class SharingPlan:
    """Which of the P parameters S sites share, in which of N groups each site is; see :func:`plan_sharing`.

    Example:
        >>> from lit_invert.testing import toy_table
        >>> plan = plan_sharing(toy_table(), SharingSettings(parameters={"s1": "global", "s3": "group"}), ["oak", "pine", "oak"])
        >>> plan.labels
        ('s1', 's3[oak]', 's3[pine]')
        >>> plan.spread(torch.tensor([7.0, 8.0, 9.0]), torch.zeros(3, 3))
        tensor([[7., 0., 8.],
                [7., 0., 9.],
                [7., 0., 8.]])
    """

    names: tuple[str, ...]
    """Names of the P parameters."""
    kinds: tuple[Kind, ...]
    """How each is shared; a fixed parameter is `site`, since it keeps its prior."""
    groups: tuple[str, ...]
    """Names of the N groups, sorted."""
    group: Tensor
    """Group of each site, (S,)."""
    counts: Tensor
    """How many sites use each shared value, (G,)."""
    of_global: Tensor
    """Places of the `global` parameters among the P."""
    of_group: Tensor
    """Places of the `group` parameters."""
    hierarchical: Tensor
    """Places of the `hierarchical` parameters."""

    @property
    def sites(self) -> int:
        """Number of sites."""
        return len(self.group)

    @property
    def size(self) -> int:
        """Number of shared values, G."""
        return len(self.of_global) + len(self.groups) * len(self.of_group)

    @property
    def shared(self) -> Tensor:
        """Places of the Q shared parameters among the P."""
        return torch.cat([self.of_global, self.of_group])

    @property
    def is_shared(self) -> Tensor:
        """True for the shared parameters, (P,)."""
        return torch.zeros(len(self.names), dtype=torch.bool, device=self.group.device).index_fill(0, self.shared, True)

    @property
    def index(self) -> Tensor:
        """Which shared value each site uses for each shared parameter, (S, Q)."""
        return self._index_of(self.group)

    @property
    def component(self) -> Tensor:
        """Which parameter each shared value is, (G,)."""
        return torch.cat([self.of_global, self.of_group.repeat_interleave(len(self.groups))])

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the shared values: that of the parameter, with the group in brackets."""
        in_groups = [f"{self.names[place]}[{group}]" for place in self.of_group.tolist() for group in self.groups]
        return (*(self.names[place] for place in self.of_global.tolist()), *in_groups)

    @property
    def shared_by(self) -> Tensor:
        """How many sites share each parameter of each site, (S, P)."""
        return self.spread(self.counts, self.counts.new_ones(self.sites, len(self.names)))

    def spread(self, shared: Tensor, local: Tensor) -> Tensor:
        """Return the parameters of all sites.

        Args:
            shared: The shared vector, (G,).
            local: A (S, P)-dim tensor, whose shared columns are not used.

        Returns:
            A (S, P)-dim tensor.
        """
        return local.index_copy(1, self.shared, shared[self.index])

    def gather(self, values: Tensor) -> Tensor:
        """Return the sum over sites for each shared value, (G,), of numbers that belong to the parameters, (S, P)."""
        return values.new_zeros(self.size).index_add(0, self.index.flatten(), values[:, self.shared].flatten())

    def gather_matrix(self, values: Tensor) -> Tensor:
        """Return the sum over sites for each pair of shared values, (G, G), of matrices over the parameters, (S, P, P)."""
        index, among = self.index, values[:, self.shared][:, :, self.shared]
        pairs = index[:, :, None] * self.size + index[:, None, :]
        return values.new_zeros(self.size**2).index_add(0, pairs.flatten(), among.flatten()).reshape(self.size, self.size)

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over the sites that share it for each shared value, (G,), of (S, P)."""
        return self.gather(values) / self.counts.to(values)

    def rows(self, sites: Tensor) -> SharingPlan:
        """Return the part of the plan for some sites, (s,): a process's own; the others still share with them."""
        return replace(self, group=self.group[sites])

    def to(self, device: torch.device) -> SharingPlan:
        """Return the plan with its tensors on a device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self) if f.type == "Tensor"})

    def without(self, site: int) -> SharingPlan:
        """Return the plan of all sites but one, as if that one had never been."""
        return _count(replace(self, group=torch.cat([self.group[:site], self.group[site + 1 :]])))

    def values_for(self, shared: Tensor, group: str, local: Tensor) -> Tensor:
        """Return the parameters of a site of some group, (P,), given its local ones, (P,).

        Raises:
            ConfigError: If the group is unknown and its value is needed.
        """
        return local.index_copy(0, self.shared, shared[self._index_of(self.group_of(group)[None])[0]])

    def group_of(self, name: str) -> Tensor:
        """Return the number of a group.

        Raises:
            ConfigError: If values of the groups are needed, and there is no group of that name.
        """
        if name in self.groups:
            return self.group.new_tensor(self.groups.index(name))
        if len(self.of_group) or len(self.hierarchical):
            raise ConfigError(f"no site of group {name!r} was fitted, so its parameters are unknown.{suggest(name, self.groups)}")
        return self.group.new_zeros(())

    def _index_of(self, group: Tensor) -> Tensor:
        ours = torch.arange(len(self.of_global), device=group.device).expand(len(group), -1)
        blocks = len(self.of_global) + len(self.groups) * torch.arange(len(self.of_group), device=group.device)
        return torch.cat([ours, blocks + group[:, None]], dim=1)


def plan_sharing(table: ParameterTable, settings: SharingSettings, groups: Sequence[str]) -> SharingPlan:
    """Plan which parameters which sites share.

    Args:
        table: The parameters.
        settings: How each is shared.
        groups: The group of each of S sites.

    Raises:
        ConfigError: If a parameter is unknown, or a shared one is bounded by one that is less widely shared.
        ShapeError: If there is no site.
    """
    for name in settings.parameters:
        if name not in table.names:
            raise ConfigError(f"`sharing.parameters`: {name!r} is not a static parameter.{suggest(name, table.names)}")
    if not groups:
        raise ShapeError("sharing: expected the group of one or more sites, found none. Name sites in the catalogue.")
    kinds: tuple[Kind, ...] = tuple(
        "site" if fixed else settings.parameters.get(name, settings.default)
        for name, fixed in zip(table.names, table.fixed.tolist(), strict=True)
    )
    _check_bounds(table, kinds)
    known = tuple(sorted(set(groups)))
    of_global, of_group, hierarchical = (_places(kinds, kind) for kind in ("global", "group", "hierarchical"))
    group = torch.tensor([known.index(name) for name in groups])
    return _count(SharingPlan(table.names, kinds, known, group, torch.empty(0), of_global, of_group, hierarchical))


def _places(kinds: Sequence[Kind], wanted: str) -> Tensor:
    return torch.tensor([place for place, kind in enumerate(kinds) if kind == wanted], dtype=torch.long)


def _count(plan: SharingPlan) -> SharingPlan:
    index = plan.index.flatten()
    return replace(plan, counts=torch.bincount(index, minlength=plan.size))


def _check_bounds(table: ParameterTable, kinds: Sequence[Kind]) -> None:
    """Raise where a shared parameter has a bound that differs from site to site."""
    reach = {"site": 0, "hierarchical": 0, "group": 1, "global": 2}
    for i in table.bounds.dependent:
        for source in (table.bounds.lower_from[i], table.bounds.upper_from[i]):
            if source >= 0 and not table.fixed[source] and reach[kinds[source]] < reach[kinds[i]]:
                raise ConfigError(
                    f"`sharing`: {table.names[i]!r} is {kinds[i]}, but its bound {table.names[source]!r} is {kinds[source]}. "
                    f"Share the bound as widely, or make {table.names[i]!r} of kind site."
                )
