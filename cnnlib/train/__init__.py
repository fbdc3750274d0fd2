"""Training: the loop, the state of a run and its checkpoints, augmentation, and runs side by side."""

from cnnlib.train.loop import FAST, Score, evaluate, fit, predict, warmup_linear
from cnnlib.train.parallel import side_by_side, start_workers
from cnnlib.train.run import History

__all__ = [
    "FAST",
    "History",
    "Score",
    "evaluate",
    "fit",
    "predict",
    "side_by_side",
    "start_workers",
    "warmup_linear",
]
