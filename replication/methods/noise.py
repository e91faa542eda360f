"""Splits with known truth: the clean part of a data set, and false positives added to it."""

from dataclasses import replace

import numpy as np

from denoise_lib.data import Interactions, Split

KINDS = ("uniform", "popularity")
CELLS_PER_BLOCK = 1 << 24  # (user, item) cells drawn at once: 128 MB


def clean_part(split: Split, seed: int = 0) -> Split:
    """The same split without the flagged false positives of train and valid; the test part is as it was.

    Raises:
        ValueError: train or valid has no flags, or would be empty.
    """
    parts = {}
    for name in ("train", "valid"):
        part = getattr(split, name)
        if part.is_clean is None:
            raise ValueError(f"{split.name}: the {name} part has no flags, so its false positives are not known")
        if not part.is_clean.any():
            raise ValueError(f"{split.name}: the {name} part has no true positive")
        parts[name] = part[part.is_clean]
    return replace(split, **parts)


def random_part(split: Split, seed: int) -> Split:
    """As many rows of train and valid as :func:`clean_part` keeps, whichever they are."""
    clean, rng = clean_part(split), np.random.default_rng(seed)
    kept = {
        name: rng.permutation(len(getattr(split, name)))[: len(getattr(clean, name))] for name in ("train", "valid")
    }
    return replace(split, **{name: getattr(split, name)[np.sort(rows)] for name, rows in kept.items()})


def with_false_positives(split: Split, dose: float, kind: str, seed: int) -> Split:
    """Adds made-up false positives to train and valid: ``round(dose * n)`` to a part of n interactions.

    A user gets them in proportion to the user's interactions of that part. The items are drawn without replacement from
    those that the user has in no part, so no test item is made unreachable.

    Args:
        split: of which train and valid are taken for clean, as :func:`clean_part` makes it.
        dose: at least 0, at most 1.
        kind: ``"uniform"``: every item alike; ``"popularity"``: in proportion to its training interactions.
        seed: of the draws.

    Raises:
        ValueError: a dose or kind out of range, or a user with too few items left.
    """
    if not 0 <= dose <= 1 or kind not in KINDS:
        raise ValueError(f"a dose lies in [0, 1] and its kind is one of {KINDS}, got {dose} and {kind!r}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    popularity = np.bincount(split.train.items, minlength=split.n_items)
    weights = popularity if kind == "popularity" else np.ones(split.n_items)
    parts, taken = {}, [split.train, split.valid, split.test]
    for name in ("train", "valid"):
        clean = getattr(split, name)
        chosen = rng.choice(len(clean), round(dose * len(clean)), replace=False)
        n_added = np.bincount(clean.users[chosen], minlength=split.n_users)
        added = _draw_items(n_added, weights, split.matrix(*taken), rng)
        flags = np.repeat([True, False], [len(clean), len(added)])
        users, items = (np.concatenate([getattr(clean, of), getattr(added, of)]) for of in ("users", "items"))
        parts[name] = Interactions(users, items, flags)
        taken.append(added)
    return replace(split, **parts)


def _draw_items(n_wanted: np.ndarray, weights: np.ndarray, taken, rng: np.random.Generator) -> Interactions:
    """``n_wanted[u]`` distinct items for each user, none of them in row u of ``taken``, in proportion to ``weights``.

    The items with the largest log-weight plus Gumbel noise are a weighted sample without replacement.
    """
    users = np.flatnonzero(n_wanted)
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    found = [Interactions(*np.empty((2, 0), np.int64))]
    for block in np.array_split(users, max(1, len(users) * len(weights) // CELLS_PER_BLOCK)):
        keys = log_weights + rng.gumbel(size=(len(block), len(weights)))
        keys[taken[block].nonzero()] = -np.inf
        order = np.argsort(-keys, axis=1)[:, : n_wanted.max()]
        wanted = np.arange(order.shape[1]) < n_wanted[block, None]
        if np.isinf(np.take_along_axis(keys, order, axis=1)[wanted]).any():
            raise ValueError("a user has too few items left to be given false positives: lower the dose")
        found.append(Interactions(np.repeat(block, n_wanted[block]), order[wanted]))
    return Interactions(*(np.concatenate([getattr(part, of) for part in found]) for of in ("users", "items")))
