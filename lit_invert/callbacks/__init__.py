"""Callbacks of an inversion: keep the bounds, keep the best, keep the history, show it."""

from .best import KeepBest as KeepBest
from .checkpoint import SaveCheckpoints as SaveCheckpoints
from .clipping import ClipToBounds as ClipToBounds
from .divergence import StopOnDivergence as StopOnDivergence
from .finishing import StopWhenFinished as StopWhenFinished
from .history import RecordHistory as RecordHistory
from .stopping import StopEarly as StopEarly
from .tensorboard import LogToTensorBoard as LogToTensorBoard
