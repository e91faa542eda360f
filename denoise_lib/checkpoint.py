"""What continuing a training run needs, on disk."""

import time
import warnings
from pathlib import Path

import torch
from torch import nn

from denoise_lib.files import replacing

SECONDS = 60  # between two writings: a kill costs about a minute


class Checkpoint:
    """What continuing needs: weights, optimizer, next step, evaluation points and the best so far. The streams of
    random numbers need no saving, since each is a function of seed, epoch and step."""

    def __init__(self, path, model: nn.Module, optimizer: torch.optim.Optimizer, key: list):
        self.path, self.model, self.optimizer, self.key = path and Path(path), model, optimizer, key
        self.next_step, self.points, self.best = 0, [], {}
        self.saved_at = time.monotonic()
        if self.path and self.path.exists():
            self._load()

    def _load(self) -> None:
        try:
            saved = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:  # whatever a damaged file makes torch raise
            warnings.warn(f"{self.path} cannot be read ({error!s:.80}); the run starts anew", stacklevel=4)
            return
        if saved["key"] != self.key:
            raise ValueError(f"{self.path} belongs to a run with other settings; delete it or name another file")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.next_step, self.points = saved["next_step"], saved["points"]
        self.best = saved["best"]

    def save(self, next_step: int) -> None:
        if not self.path or time.monotonic() - self.saved_at < SECONDS:
            return
        state = dict(key=self.key, model=self.model.state_dict(), optimizer=self.optimizer.state_dict())
        self.saved_at = time.monotonic()
        try:
            with replacing(self.path) as temporary:
                torch.save(state | dict(next_step=next_step, points=self.points, best=self.best), temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as either
            told = f"no checkpoint at {self.path} ({error!s:.200}): is the disk full? training goes on without"
            warnings.warn(told, stacklevel=3)
