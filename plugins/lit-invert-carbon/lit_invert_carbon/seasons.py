"""A term on the year's course: leaves work in the light, soils breathe in the warmth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lit_invert import Evaluation, SquaredTerm


class SeasonalPlausibility(SquaredTerm):
    r"""GPP falls mostly on the lighter half of the days, Rh mostly on the warmer half.

    .. math:: L = \sum_f \max\left(0,\, c_f \overline{f} - \overline{f \cdot [d \ge \mathrm{median}(d)]}\right)^2

    over f = GPP with d = radiation, and f = Rh with d = soil temperature. With the default shares of a half only a reversed season
    costs anything: photosynthesis rises with light (Monteith 1972) and heterotrophic respiration with soil temperature (Lloyd and
    Taylor 1994). Where drought puts the growing season into the dark half of the year, lower `gpp_share`.

    Args:
        gpp_share: Least share of GPP on the lighter half of the days [-].
        rh_share: Least share of Rh on the warmer half of the days [-].
        light: Driver that is light.
        warmth: Driver that is soil warmth.
        weight: Factor of the term in the total.

    Source:
        Monteith (1972), J. Applied Ecology 9, 747-766, doi:10.2307/2401901;
        Lloyd and Taylor (1994), Functional Ecology 8, 315-323, doi:10.2307/2389824.
    """

    name = "seasonal_plausibility"

    def __init__(
        self,
        gpp_share: float = 0.5,
        rh_share: float = 0.5,
        light: str = "dswrf",
        warmth: str = "tmp10_soil",
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.gpp_share, self.rh_share = gpp_share, rh_share
        self.light, self.warmth = light, warmth

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return what each member lacks in season, a (B, 2)-dim tensor [gC m-2 d-1]."""
        gpp = _lack(evaluation, "gpp", self.light, self.gpp_share)
        rh = _lack(evaluation, "rh", self.warmth, self.rh_share)
        return torch.stack([gpp, rh], dim=-1)


def _lack(evaluation: Evaluation, name: str, driver: str, share: float) -> Tensor:
    """Return what a flux lacks on the days with a high driver, (B,), zero where it has its share."""
    flux, values = evaluation.flux(name), torch.where(evaluation.days, evaluation.driver(driver), torch.nan)
    high = values >= values.nanmedian(dim=-1, keepdim=True).values
    return functional.relu(share * evaluation.mean(flux) - evaluation.mean(flux * high))
