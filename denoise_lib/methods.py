"""What a run does with its settings: which split it sees, which model it trains with which loss, and what it records."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from denoise_lib import datasets
from denoise_lib.controls import DROPPING, drop_keys, row_values
from denoise_lib.data import Split
from denoise_lib.diagnostics import DropCounter, diagnostic_probes
from denoise_lib.environment import environment
from denoise_lib.evaluation import final_metrics, test_probes
from denoise_lib.extra_feedback import known_weights, on_known, weighted_cross_entropy
from denoise_lib.losses import cross_entropy, drop_rate_at, dropped_samples, reweighted_cross_entropy, truncated_cross_entropy  # fmt: skip
from denoise_lib.models import CDAE, GMF, MLP, NeuMF
from denoise_lib.noise import clean_part, with_false_positives
from denoise_lib.settings import ON_KNOWN, Settings
from denoise_lib.train import History, fit


@dataclass(frozen=True, eq=False)
class Finished:
    """All that a run gives, in memory, wherever it was computed."""

    history: History
    metrics: pd.DataFrame
    per_user: dict[str, np.ndarray]
    weights: dict[str, torch.Tensor]  # on the CPU
    seconds: dict[str, float]
    environment: dict[str, str]


def train(
    run: Settings,
    data: Split,
    pretrained: Sequence[torch.nn.Module] = (),
    checkpoint: Path | None = None,
    progress: Callable | None = None,
) -> Finished:
    """Trains and evaluates one run.

    Args:
        run: its settings.
        data: the data set's split, as it is on disk.
        pretrained: the trained models of ``run.pretrained``, that the run starts from.
        checkpoint, progress: as in :func:`denoise_lib.train.fit`.
    """
    started = time.perf_counter()
    split = seen_split(run, data)
    trained_on = training_split(run, split)
    model = build_model(run, split, pretrained).to(run.device)
    drops = DropCounter() if run.diagnostics and run.method in DROPPING else None
    with torch_threads(run.threads):
        history = fit(
            model, trained_on, loss_of(run, drops), epochs=passes(run, split), seed=run.seed, batch_size=run.batch_size, lr=run.lr,
            n_negatives=run.n_negatives, eval_every=run.eval_every, protocol=run.protocol, observed=split.train,
            probes=_probes(run, split, drops),
            row_values=_row_values(run, trained_on),
            optimizer=torch.optim.SGD if run.backbone == "NeuMF-pre" else None,
            checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
        trained = time.perf_counter()
        metrics, per_user = final_metrics(model, split, run.top_k)
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    seconds = {"training": trained - started, "total": time.perf_counter() - started}
    return Finished(history, metrics, per_user, weights, seconds, environment())


def load_split(run: Settings) -> Split:
    """The split of a run's data set as the run sees it."""
    return seen_split(run, datasets.load(run.dataset))


def seen_split(run: Settings, data: Split) -> Split:
    """A data set's split as a run sees it: ``protocol: corrected`` leaves repeated pairs out, and a run with a ``dose`` has
    made-up false positives in the place of the flagged ones."""
    split = data.without_duplicates() if run.protocol == "corrected" else data
    if run.dose is not None:
        split = with_false_positives(clean_part(split), run.dose, run.noise, run.seed)
    return split


def training_split(run: Settings, split: Split) -> Split:
    """What a run is trained and selected on. What it does not train on is still observed: it is no negative, and the
    ranking leaves it out."""
    if run.method == "clean-only":
        return clean_part(split)
    return on_known(split, run.known_share, run.seed) if run.strategy in ON_KNOWN else split


def passes(run: Settings, split: Split) -> int:
    """Passes over what a run trains on. On known positives they take as many optimizer steps, up to a pass, as ``epochs``
    passes over the whole training part."""
    if run.strategy not in ON_KNOWN:
        return run.epochs
    return round(run.epochs * _steps_of_a_pass(run, split) / _steps_of_a_pass(run, training_split(run, split)))


def n_steps(run: Settings) -> int:
    """Optimizer steps of a whole run."""
    split = load_split(run)
    return passes(run, split) * _steps_of_a_pass(run, training_split(run, split))


def _steps_of_a_pass(run: Settings, split: Split) -> int:
    return math.ceil(len(split.train) * (1 + run.n_negatives) / run.batch_size)


def build_model(run: Settings, split: Split, pretrained: Sequence[torch.nn.Module] = ()) -> torch.nn.Module:
    """The backbone with its initial weights: drawn from the run's seed, or those of the trained models that it starts from.

    ``split`` is that of :func:`load_split`. CDAE reads the whole training part also where it trains on known positives
    only, since they are too few to tell users apart.
    """
    generator = torch.Generator().manual_seed(run.seed)
    match run.backbone:
        case "GMF":
            model = GMF(split.n_users, split.n_items, run.dim, generator)
        case "MLP":
            model = MLP(split.n_users, split.n_items, run.dim, run.n_layers, generator)
        case "NeuMF":
            model = NeuMF(split.n_users, split.n_items, run.dim, run.n_layers, generator)
        case "NeuMF-pre":
            return NeuMF.from_pretrained(*pretrained)
        case "CDAE":
            read = clean_part(split) if run.method == "clean-only" else split
            model = CDAE(read.matrix(read.train), run.hidden_dim, run.corruption, generator)
    for first_stage in pretrained:
        model.load_state_dict(first_stage.state_dict())
    return model


def loss_of(run: Settings, drops: DropCounter | None = None) -> Callable:
    """A method is its loss: (logits, labels, step) -> scalar, with a fourth argument where it :func:`_takes_values`.

    ``drops`` counts what is dropped in training.
    """

    def truncated(logits, labels, step, values=None):
        drop_rate = drop_rate_at(step, run.max_drop_rate, run.ramp_steps)
        if values is None:
            return truncated_cross_entropy(logits, labels, drop_rate)
        keys = drop_keys(run.method, logits, labels, values)
        if drops is not None:
            drops.add(dropped_samples(keys, labels, drop_rate), values)
        return truncated_cross_entropy(logits, labels, drop_rate, keys)

    if run.strategy == "weighted":
        return lambda logits, labels, step, added: weighted_cross_entropy(logits, labels, added)
    if run.strategy in ON_KNOWN:
        return lambda logits, labels, step: cross_entropy(logits, labels)
    match run.method:
        case "CE" | "clean-only":
            return lambda logits, labels, step: cross_entropy(logits, labels)
        case "R-CE":
            return lambda logits, labels, step: reweighted_cross_entropy(logits, labels, run.beta)
        case method if method in DROPPING:
            return truncated
        case method:
            raise ValueError(f"no loss is known for the method {method!r}")


def _takes_values(run: Settings) -> bool:
    dropping = run.method in DROPPING and run.strategy not in ON_KNOWN
    return run.strategy == "weighted" or (dropping and (run.method != "T-CE" or bool(run.diagnostics)))


def _row_values(run: Settings, split: Split) -> np.ndarray | None:
    if not _takes_values(run):
        return None
    if run.strategy == "weighted":
        return known_weights(split, run.known_share, run.seed, run.known_weight)
    return row_values(split.train, split.n_items)


def _probes(run: Settings, split: Split, drops: DropCounter | None) -> dict[str, Callable] | None:
    if run.diagnostics:
        return diagnostic_probes(split, run.top_k, run.n_negatives, run.seed, drops)
    return test_probes(split, run.top_k) if run.test_curve else None


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Sets torch's threads, which are part of a run's bits, for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
