"""Sampled negatives: items that a user has not interacted with."""

import numpy as np
import torch
from scipy.sparse import csr_matrix


def sample_negatives(
    users: np.ndarray, positives: csr_matrix, n_negatives: int, rng: np.random.Generator
) -> np.ndarray:
    r"""Draws negatives uniformly, with replacement, from the items that each user has not interacted with.

    A user with :math:`m` positives :math:`p_0 < p_1 < \dots` has :math:`n - m` free items. The free item number
    :math:`r` is :math:`r + c`, where :math:`c` counts the positives with :math:`p_j - j \le r`: so one uniform draw
    of :math:`r` and one binary search give an exact sample, whose cost is the same for a user with one free item.

    Args:
        users: int64 ``(n,)``, the user of each row to draw for.
        positives: CSR ``(n_users, n_items)`` of all observed interactions, with sorted indices and no duplicates.
        n_negatives: draws per row.
        rng: source of the draws.

    Returns:
        int64 ``(n, n_negatives)`` item ids.

    Raises:
        ValueError: a user has interacted with every item.

    Source: the authors' ``data_utils.py`` at 451779a, which draws from the same distribution by trial and error.
    """
    n_users, n_items = positives.shape
    n_positives = np.diff(positives.indptr).astype(np.int64)
    n_free = n_items - n_positives
    full = users[n_free[users] == 0]
    if len(full):
        raise ValueError(f"user {full[0]} has interacted with all {n_items} items, so there is no negative to draw")
    starts = positives.indptr[:-1].astype(np.int64)
    # Keys of all users in one sorted array: user u's lie in [u * n_items, u * n_items + n_free[u]].
    position_in_row = np.arange(positives.nnz) - np.repeat(starts, n_positives)
    keys = np.repeat(np.arange(n_users) * n_items, n_positives) + positives.indices - position_in_row

    users = users[:, None]
    draws = (rng.random((len(users), n_negatives)) * n_free[users]).astype(np.int64)
    # torch's binary search gives numpy's answer in less than half the time.
    n_below = torch.searchsorted(torch.from_numpy(keys), torch.from_numpy(users * n_items + draws), right=True).numpy()
    return draws + n_below - starts[users]
