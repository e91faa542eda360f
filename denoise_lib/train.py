"""The one training loop. A method is the ``loss_fn`` that it is given."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from denoise_lib.checkpoint import Checkpoint
from denoise_lib.data import Interactions, Split
from denoise_lib.optimizer import LazyAdam, optimizer_for
from denoise_lib.sampling import sample_negatives

PROTOCOLS = ("corrected", "authors")
ROWS_PER_BLOCK = 1 << 15  # validation rows scored at once
STEP, VALIDATION = 1, 2  # purposes of a random stream; not 0, since [seed, epoch] is [seed, epoch, 0, 0] to NumPy


@dataclass(frozen=True)
class History:
    """What a training run recorded.

    Attributes:
        frame: one row per evaluation point; columns ``step``, ``epoch``, ``train_loss`` (mean of the batch losses since
            the point before), ``valid_loss``, and one per probe.
        selected_step: the step whose weights the model now holds.
    """

    frame: pd.DataFrame
    selected_step: int


def fit(
    model: nn.Module,
    split: Split,
    loss_fn: Callable[..., Tensor],
    *,
    epochs: int,
    seed: int,
    batch_size: int = 1024,
    lr: float = 0.001,
    n_negatives: int = 1,
    eval_every: int = 100,
    select_by: str = "valid_loss",
    probes: dict[str, Callable[[nn.Module, int], float]] | None = None,
    row_values: np.ndarray | None = None,
    valid_values: np.ndarray | None = None,
    patience: int | None = None,
    least_steps: int = 0,
    observed: Interactions | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    protocol: str = "corrected",
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
) -> History:
    """Trains a model in place and leaves it with the weights of its best evaluation point.

    Every epoch draws new negatives, shuffles positives and negatives together and cuts them into batches; the last one
    may be short. Steps count from 0. An evaluation point follows the update of each step that is a positive multiple
    of ``eval_every``, and the last step if there was no point before (so "step 100" has made 101 updates, as with the
    authors). All randomness comes from ``seed``: the result is the same to the last bit on one machine with one number
    of threads, and the global random state is left as it was.

    Args:
        model: ``model(users, items) -> logits``; it holds the initial weights.
        split: ``split.train`` is trained on, ``split.valid`` gives the validation loss, by ``loss_fn`` too.
        loss_fn: ``(logits, labels, step) -> scalar``; with ``row_values``, ``(logits, labels, step, values)``.
        epochs: passes over the training data; 0 leaves the model as it is, with an empty history and step -1.
        seed: non-negative integer.
        batch_size: rows of a batch, positives and negatives together.
        lr: learning rate of the optimizer.
        n_negatives: sampled negatives per positive.
        eval_every: steps between evaluation points.
        select_by: ``"valid_loss"`` or the name of a probe; the lowest value wins, the highest where the name starts
            with ``recall`` or ``ndcg``, the earliest among equals.
        probes: name -> function of (model, step), called in evaluation mode at each evaluation point.
        row_values: float ``(len(split.train),)`` or ``(len(split.train), c)``, handed to ``loss_fn`` batch by batch; 0
            for negatives.
        valid_values: the same of ``split.valid``, for validation; None: 0 there.
        patience: from step ``least_steps`` on, training stops once neither ``select_by`` nor the validation loss has
            been better than before for so many points; None: it never does.
        observed: the interactions that are never drawn as negatives; None takes ``split.train``.
        checkpoint: file to continue from and to save to, at most once a minute. A run that was stopped and is started
            again with the same arguments ends with the same bits. Whoever passes it deletes it afterwards. Where it
            cannot be written, as on a full disk, a warning says so and the training goes on.
        progress: called at each evaluation point with (step, number of steps, validation loss).
        protocol: ``"corrected"``: validation negatives are drawn once, avoid the validation positives too, and the loss
            is taken over all validation rows at once. ``"authors"``: they are drawn anew at each point, avoid only
            ``observed``, and the loss is the sum of the means of shuffled batches (DEVIATIONS.md).
        optimizer: ``(parameters, lr=...) -> Optimizer``; None takes Adam (:func:`denoise_lib.optimizer.optimizer_for`).

    Raises:
        ValueError: arguments out of range, a user without a free item, or a checkpoint of another run.
        FloatingPointError: the value that selects is NaN, so training diverged.
    """
    probes = probes or {}
    _at_least(0, epochs=epochs, seed=seed)
    _at_least(1, batch_size=batch_size, n_negatives=n_negatives, eval_every=eval_every)
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is one of {PROTOCOLS}, got {protocol!r}")
    if select_by != "valid_loss" and select_by not in probes:
        raise ValueError(f"select_by is 'valid_loss' or the name of a probe {sorted(probes)}, got {select_by!r}")
    if row_values is not None and len(row_values) != len(split.train):
        raise ValueError(f"row_values has {len(row_values)} values for {len(split.train)} training rows")
    if row_values is not None and valid_values is None:
        valid_values = np.zeros((len(split.valid), *row_values.shape[1:]))
    if epochs == 0:
        model.eval()
        return History(pd.DataFrame(columns=["step", "epoch", "train_loss", "valid_loss", *probes]), -1)
    device = next(model.parameters()).device
    observed_pairs = split.matrix(split.train if observed is None else observed)
    draw, n_at_once = _validation(protocol, split, observed_pairs, n_negatives, seed, batch_size, valid_values)
    in_epoch = steps_per_epoch(len(split.train), n_negatives, batch_size)
    n_steps = epochs * in_epoch
    generator = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
    signs = {"valid_loss": 1, select_by: -1 if select_by.startswith(("recall", "ndcg")) else 1}
    running_loss = torch.zeros((), device=device)
    model.train()
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), optimizer_for(model, optimizer, batch_size, lr) as optimizer:
        state = Checkpoint(checkpoint, model, optimizer, key=[seed, n_steps, batch_size, lr, n_negatives, eval_every])
        points, best = state.points, state.best
        for step in range(state.next_step, n_steps):
            epoch, batch = divmod(step, in_epoch)
            if batch == 0 or step == state.next_step:
                rows = _epoch_rows(split.train, observed_pairs, n_negatives, row_values, seed, epoch, device)
                step_seeds = np.random.SeedSequence([seed, epoch, 0, STEP]).generate_state(in_epoch).tolist()
            end = (batch + 1) * batch_size if batch < in_epoch - 1 else None
            users, items, labels, *values = (column[batch * batch_size : end] for column in rows)
            generator.manual_seed(step_seeds[batch])  # of dropout, corruption, random drops
            optimizer.zero_grad()
            loss = loss_fn(model(users, items), labels, step, *values)
            loss.backward()
            optimizer.step()
            running_loss += loss.detach()

            is_point = step > 0 and step % eval_every == 0
            if not is_point and (points or step < n_steps - 1):
                continue
            model.eval()
            if isinstance(optimizer, LazyAdam):
                optimizer.catch_up()  # score_items reads whole tables
            with torch.no_grad():
                valid_loss = _valid_loss(model, loss_fn, draw(epoch, step), n_at_once, step)
                measured = {name: float(probe(model, step)) for name, probe in probes.items()}
            model.train()
            train_loss = running_loss.item() / (step - points[-1]["step"] if points else step + 1)
            running_loss.zero_()
            points.append(dict(step=step, epoch=epoch, train_loss=train_loss, valid_loss=valid_loss, **measured))
            value = signs[select_by] * points[-1][select_by]
            if math.isnan(value):
                raise FloatingPointError(f"{select_by} is NaN at step {step}: training diverged; lower lr ({lr})")
            if not best or value < best["value"]:
                best.update(value=value, step=step, weights={k: v.clone() for k, v in model.state_dict().items()})
            has_turned = patience and step >= least_steps and _has_turned(points, signs, patience)
            if not has_turned:
                state.save(step + 1)
            if progress:
                progress(step, n_steps, valid_loss)
            if has_turned:
                break
    model.load_state_dict(best["weights"])
    model.eval()
    return History(pd.DataFrame(points), best["step"])


def steps_per_epoch(n_positives: int, n_negatives: int, batch_size: int) -> int:
    """Optimizer steps of one pass over so many positives and their negatives. The last batch may be short, but a single
    row, of which a loss can drop nothing, joins the batch before."""
    n_full, n_left = divmod(n_positives * (1 + n_negatives), batch_size)
    return max(1, n_full + (n_left > 1))


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _rows(positives: Interactions, avoid, n_negatives: int, rng: np.random.Generator, values=None) -> list[np.ndarray]:
    """Positives, then their negatives: users, items and labels as arrays of ``len(positives) * (1 + n_negatives)``, and
    the ``values`` of the positives, 0 for negatives, where there are any."""
    negatives = sample_negatives(positives.users, avoid, n_negatives, rng)
    users = np.concatenate([positives.users, np.repeat(positives.users, n_negatives)])
    items = np.concatenate([positives.items, negatives.ravel()])
    labels = (np.arange(len(users)) < len(positives)).astype(np.float32)
    columns = [users, items, labels]
    if values is not None:
        of_negatives = np.zeros((negatives.size, *values.shape[1:]))
        columns.append(np.concatenate([values, of_negatives]).astype(np.float32))
    return columns


def validation_rows(split: Split, observed_pairs, n_negatives: int, seed: int, values=None) -> list[np.ndarray]:
    """Users, items, labels of the validation positives, then their negatives, as ``protocol: corrected`` draws them."""
    avoid = observed_pairs.maximum(split.matrix(split.valid))
    return _rows(split.valid, avoid, n_negatives, np.random.default_rng([seed, 0, 0, VALIDATION]), values)


def score_pairs(model: nn.Module, users: np.ndarray, items: np.ndarray) -> Tensor:
    """The logits ``(n,)`` of many pairs, computed in blocks."""
    device = next(model.parameters()).device
    pairs = zip(torch.from_numpy(users).split(ROWS_PER_BLOCK), torch.from_numpy(items).split(ROWS_PER_BLOCK))
    return torch.cat([model(block_users.to(device), block_items.to(device)) for block_users, block_items in pairs])


def _epoch_rows(train, observed_pairs, n_negatives, row_values, seed, epoch, device) -> list[Tensor]:
    """One epoch's shuffled rows on the device: users, items, labels and, where asked for, values."""
    rng = np.random.default_rng([seed, epoch])
    columns = _rows(train, observed_pairs, n_negatives, rng, row_values)
    order = rng.permutation(len(columns[0]))
    return [torch.from_numpy(column[order]).to(device) for column in columns]


def _validation(protocol: str, split: Split, observed_pairs, n_negatives: int, seed: int, batch_size: int, values):
    """How a protocol validates: a function (epoch, step) -> the columns of :func:`_rows`, and the rows that a loss is
    over."""
    if protocol == "corrected":
        once = validation_rows(split, observed_pairs, n_negatives, seed, values)
        return (lambda epoch, step: once), len(once[0])

    def drawn_anew(epoch: int, step: int):
        rng = np.random.default_rng([seed, epoch, step, VALIDATION])
        rows = _rows(split.valid, observed_pairs, n_negatives, rng, values)
        order = rng.permutation(len(rows[0]))
        return [column[order] for column in rows]

    return drawn_anew, batch_size


def _has_turned(points: list[dict], signs: dict[str, int], patience: int) -> bool:
    """Whether the best point of each column (sign 1: the lowest is, -1: the highest) has so many points after it."""
    best = [min(range(len(points)), key=lambda i, of=name: signs[of] * points[i][of]) for name in signs]
    return len(points) - 1 - max(best) >= patience


def _valid_loss(model: nn.Module, loss_fn: Callable, rows, n_at_once: int, step: int) -> float:
    """The sum of the losses of a part's batches; of a single one for ``protocol: corrected``."""
    users, items, *columns = rows
    logits = score_pairs(model, users, items)
    blocks = [torch.from_numpy(column).to(logits.device).split(n_at_once) for column in columns]
    batches = zip(logits.split(n_at_once), *blocks)
    return sum(float(loss_fn(of_batch, labels, step, *values)) for of_batch, labels, *values in batches)
