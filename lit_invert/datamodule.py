"""The data of an inversion, as a Trainer wants it.

An inversion is one full-batch problem whose tensors the module already holds, so a "batch" is only the number of the iteration: an
epoch is `trainer.limit_train_batches` of them, and the validation after it looks once at the `select` days.
"""

from __future__ import annotations

import sys

from lightning.pytorch import LightningDataModule


class InversionData(LightningDataModule):
    """Counts iterations.

    Args:
        iterations: Most iterations of the fit; -1 where epochs or time are the limit.
    """

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations

    def train_dataloader(self) -> range:
        """Return the iterations."""
        return range(self.iterations if self.iterations > 0 else sys.maxsize)

    def val_dataloader(self) -> range:
        """Return one look at the `select` days."""
        return range(1)
