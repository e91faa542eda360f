"""What a trained model recommends."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from denoise_lib.evaluator import rank_items
from replication.runs.recipe import split_for
from replication.runs.store import Run
from replication.sources.own_table import original_ids


def recommend(run: Run, users: Sequence[str], k: int = 10) -> pd.DataFrame:
    """The best k items of some users, among those that they have not interacted with in train, valid or test. A false
    positive that was left out of the test part is in none of these, so it may come up.

    Args:
        run: a finished run with its weights, as :func:`replication.runs.map.map_runs` returns it.
        users: original ids; where no map was kept (all but tables of your own), the numbers in the files, as text.
        k: items for each user; one who has seen nearly everything gets fewer.

    Returns:
        ``user, rank, item, probability`` with original ids; the last is the score's sigmoid, of use for ordering only.

    Raises:
        ValueError: an unknown user, or k below 1.
    """
    user_ids, item_ids = (pd.Index(original_ids(run.settings.dataset, what)) for what in ("users", "items"))
    numbers = user_ids.get_indexer([str(user) for user in users])
    if (numbers < 0).any():
        unknown, example = users[np.argmin(numbers)], ", ".join(user_ids[:3])
        raise ValueError(f"no user {unknown!r} in {run.settings.dataset}; ids look like {example}")
    split, model = split_for(run.settings), run.model()
    seen = split.matrix(split.train, split.valid, split.test)[numbers]
    ranked = rank_items(model, numbers, seen, min(k, split.n_items))
    row, rank = np.nonzero(ranked >= 0)
    items = ranked[row, rank]
    with torch.no_grad():
        scores = model.score_items(torch.from_numpy(numbers)).sigmoid().numpy()[row, items]
    return pd.DataFrame(dict(user=user_ids[numbers[row]], rank=rank + 1, item=item_ids[items], probability=scores))
