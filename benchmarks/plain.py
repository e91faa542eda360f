"""A plain loop in the style of common implementations, to measure against.

A ``Dataset`` with negatives drawn one by one in Python, a ``DataLoader``, PyTorch's default Adam, and a ranking user by
user. Same models, same losses, same protocol.
"""

import math
import random

import torch
from torch.utils.data import DataLoader, Dataset

from denoise_lib.data import Split


class PlainDataset(Dataset):
    """Training pairs, with one negative each from :meth:`draw_negatives`."""

    def __init__(self, split: Split):
        self.n_items = split.n_items
        self.positives = list(zip(split.train.users.tolist(), split.train.items.tolist()))
        self.observed = set(self.positives)
        self.rows = []

    def draw_negatives(self) -> None:
        self.rows = [(user, item, 1.0) for user, item in self.positives]
        for user, _ in self.positives:
            item = random.randrange(self.n_items)
            while (user, item) in self.observed:
                item = random.randrange(self.n_items)
            self.rows.append((user, item, 0.0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        return self.rows[index]


def train_steps(model, dataset: PlainDataset, loss_fn, batch_size: int, n_steps: int) -> int:
    """An epoch on negatives that are already drawn, or its first ``n_steps`` steps; returns the steps made."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    model.train()
    done = 0
    for users, items, labels in DataLoader(dataset, batch_size=batch_size, shuffle=True):
        optimizer.zero_grad()
        loss = loss_fn(model(users, items), labels.float())
        loss.backward()
        optimizer.step()
        done += 1
        if done == n_steps:
            break
    return done


def rank_and_measure(model, split: Split, users, k: int) -> dict[str, float]:
    """Mean Recall and NDCG of some users, one after another."""
    seen = {}
    for part in (split.train, split.valid):
        for user, item in zip(part.users.tolist(), part.items.tolist()):
            seen.setdefault(user, []).append(item)
    truth = {}
    for user, item in zip(split.test.users.tolist(), split.test.items.tolist()):
        truth.setdefault(user, set()).add(item)
    items, recalls, ndcgs = torch.arange(split.n_items), [], []
    model.eval()
    with torch.no_grad():
        for user in users:
            scores = model(torch.full_like(items, int(user)), items)
            scores[seen.get(user, [])] = -1e9
            ranked = torch.topk(scores, k).indices.tolist()
            wanted = truth.get(user, {-1})
            hits = [1 if item in wanted else 0 for item in ranked]
            recalls.append(sum(hits) / len(wanted))
            gain = sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits))
            ndcgs.append(gain / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(wanted)))))
    return {"recall": sum(recalls) / len(recalls), "ndcg": sum(ndcgs) / len(ndcgs)}
