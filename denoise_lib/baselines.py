"""Rankings without training, in the protocol of the trained models: what any method must beat."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from denoise_lib.data import Interactions, Split
from denoise_lib.evaluation import evaluate, ranking_task


class MostPop:
    """Every user gets the items with the most interactions.

    Args:
        n_items: number of items.
        parts: the interactions that are counted, row by row: a pair that lies in two parts counts twice.
    """

    def __init__(self, n_items: int, *parts: Interactions):
        counts = np.bincount(np.concatenate([part.items for part in parts]), minlength=n_items)
        self.popularity = torch.as_tensor(counts, dtype=torch.float32)

    def score_items(self, users: Tensor) -> Tensor:
        """The items' numbers of interactions, ``(U, n_items)``: the same row for every user."""
        return self.popularity.repeat(len(users), 1)


def baselines(split: Split, ks) -> pd.DataFrame:
    """Test means of the baselines over all, warm and cold users: ``method, users, metric, k, value``.

    ``MostPop`` counts train only; ``MostPop (train + valid)`` also knows the validation part, which no trained model
    does, and is no fair competitor: it shows how much the validation part tells of the test part.
    """
    task = ranking_task(split, split.test, [split.train, split.valid])
    is_warm = np.isin(task.users, split.train.users)
    groups = {"all": np.ones(len(task.users), bool), "warm": is_warm, "cold": ~is_warm}
    rows = []
    for method, parts in {"MostPop": [split.train], "MostPop (train + valid)": [split.train, split.valid]}.items():
        for metric, values in evaluate(MostPop(split.n_items, *parts), task, ks).items():
            for column, k in enumerate(ks):
                for users, mask in groups.items():
                    if mask.any():
                        rows.append((method, users, metric, k, values[mask, column].mean()))
    return pd.DataFrame(rows, columns=["method", "users", "metric", "k", "value"])
