"""What a run does with its settings, put together once: the split it sees, the model, the loss, what it records."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from denoise_lib.data import Split
from denoise_lib.train import History, fit, steps_per_epoch
from replication.methods import METHODS
from replication.methods.known_positives import ON_KNOWN, known_positives, known_weights, weighted_cross_entropy
from replication.methods.method import row_values
from replication.methods.noise import clean_part, with_false_positives
from replication.runs.measure import DropCounter, diagnostic_probes, final_metrics, test_metrics, where_the_hits_are
from replication.runs.settings import Settings
from replication.sources import public
from replication.support.environment import environment


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
        data: the data set's split, as it is on disk.
        pretrained: the trained models of ``run.pretrained``, that the run starts from.
        checkpoint, progress: as in :func:`denoise_lib.train.fit`.

    Raises:
        Exception: training failed. Where a loss or a backbone is the user's, a note names its file.
    """
    started, split = time.perf_counter(), split_for(run, data)
    if max(run.top_k) > split.n_items:
        raise ValueError(f"top_k: {max(run.top_k)} is more than the {split.n_items} items of {run.dataset}")
    trained_on = training_split(run, split)
    drops = DropCounter() if run.diagnostics and run.the_method().drop_keys else None
    loss_fn, values = loss_and_values(run, trained_on, drops)
    valid_values = row_values(trained_on.valid, trained_on) if run.knows_validation and values is not None else None
    has_curve = run.test_curve and not run.diagnostics
    probes = test_metrics(split, run.top_k, run.curve_users) if has_curve else None
    if run.diagnostics:
        probes = diagnostic_probes(split, run.top_k, run.n_negatives, run.seed, drops, run.curve_users)
    same = ("seed", "batch_size", "lr", "n_negatives", "eval_every", "protocol")
    try:
        with torch_threads(run.threads):
            model = build_model(run, split, pretrained).to(run.device)
            history = fit(
                model,
                trained_on,
                loss_fn,
                **{name: getattr(run, name) for name in same},
                epochs=passes(run, split),
                observed=split.train,
                probes=probes,
                row_values=values,
                valid_values=valid_values,
                **until_it_turns(run),
                optimizer=run.the_backbone().optimizer,
                checkpoint=checkpoint,
                progress=progress,
            )
            trained = time.perf_counter()
            metrics, per_user = final_metrics(model, split, run.top_k)
            if run.patience:
                metrics = pd.concat([metrics, where_the_hits_are(model, split, run.top_k)], ignore_index=True)
    except Exception as error:
        if files := [source.file for source in (run.method_source, run.backbone_source) if source]:
            cause = str(error).partition("\n")[0]
            error.add_note(f"training with {' and '.join(files)} failed: {type(error).__name__}: {cause}")
        raise
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    seconds = {"training": trained - started, "total": time.perf_counter() - started}
    return Finished(history, metrics, per_user, weights, seconds, environment())


def split_for(run: Settings, data: Split | None = None) -> Split:
    """The split of a run's data set, ``data`` or the one on disk, as the run sees it: ``protocol: corrected`` leaves
    repeated pairs out, and a run with a ``dose`` has made-up false positives in the place of the flagged ones."""
    split = data
    if data is None or run.split_seed is not None:
        split = public.load(run.dataset, run.split_seed)
    if run.protocol == "corrected":
        split = split.without_duplicates()
    if run.dose is not None:
        split = with_false_positives(clean_part(split), run.dose, run.noise, run.seed)
    return split


def until_it_turns(run: Settings) -> dict:
    """How a run with ``patience`` selects and stops: no sooner than its drop rate has reached its maximum."""
    if not run.patience:
        return {}
    least = run.method_options.get("ramp_steps", 0)
    return {"select_by": f"recall_{max(run.top_k)}_valid", "patience": run.patience, "least_steps": least}


def training_split(run: Settings, split: Split) -> Split:
    """What a run is trained and selected on. The rest is still observed: no negative, and left out of the ranking."""
    if run.strategy in ON_KNOWN:
        return replace(split, train=known_positives(split, run.known_share, run.seed))
    return run.the_method().trains_on(split, run.seed)


def passes(run: Settings, split: Split) -> int:
    """Passes over what a run trains on. On known positives they take as many optimizer steps, up to a pass, as
    ``epochs`` passes over the whole training part."""
    if run.strategy not in ON_KNOWN:
        return run.epochs
    return round(run.epochs * _steps_of_a_pass(run, split) / _steps_of_a_pass(run, training_split(run, split)))


def n_steps(run: Settings) -> int:
    """Optimizer steps of a whole run."""
    split = split_for(run)
    return passes(run, split) * _steps_of_a_pass(run, training_split(run, split))


def _steps_of_a_pass(run: Settings, split: Split) -> int:
    return steps_per_epoch(len(split.train), run.n_negatives, run.batch_size)


def build_model(run: Settings, split: Split, pretrained: Sequence[torch.nn.Module] = ()) -> torch.nn.Module:
    """The backbone with its initial weights: drawn from the run's seed, or those of the models that it starts from.

    ``split`` is that of :func:`split_for`. CDAE reads the whole training part also where it trains on known positives
    only, since they are too few to tell users apart.
    """
    backbone = run.the_backbone()
    if pretrained and backbone.from_trained:
        return backbone.from_trained(*pretrained)
    read, generator = run.the_method().trains_on(split, run.seed).train, torch.Generator().manual_seed(run.seed)
    model = backbone.build(split.matrix(read), generator=generator, **run.backbone_options)
    for first_stage in pretrained:
        model.load_state_dict(first_stage.state_dict())
    return model


def loss_and_values(run: Settings, split: Split, drops: DropCounter | None = None) -> tuple:
    """A run's loss, and what it has to know of each training row: both as :func:`denoise_lib.train.fit` takes them.

    ``drops`` counts what is dropped in training.
    """
    if run.strategy in ON_KNOWN:
        return METHODS["CE"].loss_and_values({}, split)
    if run.strategy == "weighted":
        weights = known_weights(split, run.known_share, run.seed, run.known_weight)
        return (lambda logits, labels, step, added: weighted_cross_entropy(logits, labels, added)), weights
    return run.the_method().loss_and_values(run.method_options, split, drops.add if drops else None)


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Sets torch's threads, which are part of a run's bits, for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
