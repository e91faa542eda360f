"""The one training loop. A method is the ``loss_fn`` that it is given."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from denoise_lib.data import Interactions, Split
from denoise_lib.files import replacing
from denoise_lib.sampling import sample_negatives

PROTOCOLS = ("corrected", "authors")
CHECKPOINT_SECONDS = 60  # a kill costs about a minute
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
    valid_loss_fn: Callable[[Tensor, Tensor, int], Tensor] | None = None,
    select_by: str = "valid_loss",
    probes: dict[str, Callable[[nn.Module, int], float]] | None = None,
    row_values: np.ndarray | None = None,
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
        split: ``split.train`` is trained on, ``split.valid`` gives the validation loss.
        loss_fn: ``(logits, labels, step) -> scalar``; with ``row_values``, ``(logits, labels, step, values)``.
        epochs: passes over the training data; 0 leaves the model as it is, with an empty history and step -1.
        seed: non-negative integer.
        batch_size: rows of a batch, positives and negatives together.
        lr: learning rate of the optimizer.
        n_negatives: sampled negatives per positive.
        eval_every: steps between evaluation points.
        valid_loss_fn: ``(logits, labels, step) -> scalar``; None takes ``loss_fn``, each method's own loss.
        select_by: ``"valid_loss"`` or the name of a probe; the lowest value wins, the highest where the name starts
            with ``recall`` or ``ndcg``, the earliest among equals.
        probes: name -> function of (model, step), called in evaluation mode at each evaluation point.
        row_values: float ``(len(split.train),)``, handed to ``loss_fn`` batch by batch; 0 for negatives and in
            validation.
        observed: the interactions that are never drawn as negatives; None takes ``split.train``.
        checkpoint: file to continue from and to save to, at most once a minute. A run that was stopped and is started
            again with the same arguments ends with the same bits. Whoever passes it deletes it afterwards. Where it
            cannot be written, as on a full disk, a warning says so and the training goes on.
        progress: called at each evaluation point with (step, number of steps, validation loss).
        protocol: ``"corrected"``: validation negatives are drawn once, avoid the validation positives too, and the loss
            is taken over all validation rows at once. ``"authors"``: they are drawn anew at each point, avoid only
            ``observed``, and the loss is the sum of the means of shuffled batches (DEVIATIONS.md).
        optimizer: ``(parameters, lr=...) -> Optimizer``; None takes dense Adam.

    Raises:
        ValueError: arguments out of range, a user without a free item, or a checkpoint of another run.
        FloatingPointError: the value that selects is NaN, so training diverged.
    """
    probes = probes or {}
    if epochs == 0:
        model.eval()
        return History(pd.DataFrame(columns=["step", "epoch", "train_loss", "valid_loss", *probes]), -1)
    _check(epochs, seed, batch_size, n_negatives, eval_every, select_by, probes, protocol, row_values, split)
    device = next(model.parameters()).device
    observed_pairs = split.matrix(split.train if observed is None else observed)
    validate = _validator(model, split, observed_pairs, valid_loss_fn, loss_fn, row_values, seed, n_negatives, batch_size, protocol)
    optimizer = (optimizer or _adam)(model.parameters(), lr=lr)
    steps_per_epoch = math.ceil(len(split.train) * (1 + n_negatives) / batch_size)
    n_steps = epochs * steps_per_epoch
    generator = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
    sign = -1 if select_by.startswith(("recall", "ndcg")) else 1

    state = _Checkpoint(checkpoint, model, optimizer, key=[seed, n_steps, batch_size, lr, n_negatives, eval_every])
    points, best = state.points, state.best
    running_loss = torch.zeros((), device=device)
    steps_since_point = 0
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _fast_tables(model, batch_size) as densify:
        for epoch in range(state.next_step // steps_per_epoch, epochs):
            rows = _epoch_rows(split.train, observed_pairs, n_negatives, row_values, seed, epoch, device)
            step_seeds = np.random.SeedSequence([seed, epoch, 0, STEP]).generate_state(steps_per_epoch).tolist()
            for batch in range(max(0, state.next_step - epoch * steps_per_epoch), steps_per_epoch):
                step = epoch * steps_per_epoch + batch
                users, items, labels, *values = (column[batch * batch_size : (batch + 1) * batch_size] for column in rows)
                generator.manual_seed(step_seeds[batch])  # of dropout, corruption, random drops
                optimizer.zero_grad()
                loss = loss_fn(model(users, items), labels, step, *values)
                loss.backward()
                densify(model.parameters())
                optimizer.step()
                running_loss += loss.detach()
                steps_since_point += 1

                is_point = step > 0 and step % eval_every == 0
                if not is_point and (points or step < n_steps - 1):
                    continue
                model.eval()
                with torch.no_grad():
                    valid_loss = validate(epoch, step)
                    measured = {name: float(probe(model, step)) for name, probe in probes.items()}
                model.train()
                train_loss = running_loss.item() / steps_since_point
                points.append({"step": step, "epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss, **measured})
                value = sign * points[-1][select_by]
                if math.isnan(value):
                    raise FloatingPointError(f"{select_by} is NaN at step {step}: training diverged; lower lr ({lr})")
                if not best or value < best["value"]:
                    best.update(value=value, step=step, weights={k: v.clone() for k, v in model.state_dict().items()})
                running_loss.zero_()
                steps_since_point = 0
                state.save(step + 1)
                if progress:
                    progress(step, n_steps, valid_loss)
    model.load_state_dict(best["weights"])
    model.eval()
    return History(pd.DataFrame(points), best["step"])


def _check(epochs, seed, batch_size, n_negatives, eval_every, select_by, probes, protocol, row_values, split) -> None:
    for name, value in dict(epochs=epochs, batch_size=batch_size, n_negatives=n_negatives, eval_every=eval_every).items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is one of {PROTOCOLS}, got {protocol!r}")
    if select_by != "valid_loss" and select_by not in probes:
        raise ValueError(f"select_by is 'valid_loss' or the name of a probe {sorted(probes)}, got {select_by!r}")
    if row_values is not None and len(row_values) != len(split.train):
        raise ValueError(f"row_values has {len(row_values)} values for {len(split.train)} training rows")


def _adam(parameters, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, fused=True)  # one pass over memory instead of a dozen


def _rows(positives: Interactions, avoid, n_negatives: int, rng: np.random.Generator):
    """Positives, then their negatives: users, items and labels as arrays of ``len(positives) * (1 + n_negatives)``."""
    negatives = sample_negatives(positives.users, avoid, n_negatives, rng)
    users = np.concatenate([positives.users, np.repeat(positives.users, n_negatives)])
    items = np.concatenate([positives.items, negatives.ravel()])
    labels = np.zeros(len(users), np.float32)
    labels[: len(positives)] = 1
    return users, items, labels


def validation_rows(split: Split, observed_pairs, n_negatives: int, seed: int):
    """The validation positives, then their negatives, as ``protocol: corrected`` draws them once: users, items, labels."""
    avoid = observed_pairs.maximum(split.matrix(split.valid))
    return _rows(split.valid, avoid, n_negatives, np.random.default_rng([seed, 0, 0, VALIDATION]))


def score_pairs(model: nn.Module, users: np.ndarray, items: np.ndarray) -> Tensor:
    """The logits ``(n,)`` of many pairs, computed in blocks."""
    device = next(model.parameters()).device
    pairs = zip(torch.from_numpy(users).split(ROWS_PER_BLOCK), torch.from_numpy(items).split(ROWS_PER_BLOCK))
    return torch.cat([model(block_users.to(device), block_items.to(device)) for block_users, block_items in pairs])


def _epoch_rows(train, observed_pairs, n_negatives, row_values, seed, epoch, device) -> list[Tensor]:
    """One epoch's shuffled rows on the device: users, items, labels and, where asked for, values."""
    rng = np.random.default_rng([seed, epoch])
    columns = _rows(train, observed_pairs, n_negatives, rng)
    if row_values is not None:
        columns += (np.concatenate([row_values, np.zeros(len(train) * n_negatives)]).astype(np.float32),)
    order = rng.permutation(len(columns[0]))
    return [torch.from_numpy(column[order]).to(device) for column in columns]


def _validator(
    model, split, observed_pairs, valid_loss_fn, loss_fn, row_values, seed, n_negatives, batch_size, protocol
) -> Callable[[int, int], float]:
    """The function (epoch, step) -> validation loss of a protocol."""
    device = next(model.parameters()).device

    def loss_of(logits: Tensor, labels: Tensor, step: int) -> float:
        if valid_loss_fn is not None:
            return float(valid_loss_fn(logits, labels, step))
        values = [] if row_values is None else [torch.zeros_like(labels)]
        return float(loss_fn(logits, labels, step, *values))

    if protocol == "authors":

        def validate(epoch: int, step: int) -> float:
            rng = np.random.default_rng([seed, epoch, step, VALIDATION])
            users, items, labels = _rows(split.valid, observed_pairs, n_negatives, rng)
            order = rng.permutation(len(users))
            logits, labels = score_pairs(model, users[order], items[order]), torch.from_numpy(labels[order]).to(device)
            batches = zip(logits.split(batch_size), labels.split(batch_size))
            return sum(loss_of(*batch, step) for batch in batches)

    else:
        users, items, labels = validation_rows(split, observed_pairs, n_negatives, seed)
        labels = torch.from_numpy(labels).to(device)

        def validate(epoch: int, step: int) -> float:
            return loss_of(score_pairs(model, users, items), labels, step)

    return validate


@contextmanager
def _fast_tables(model: nn.Module, batch_size: int) -> Iterator[Callable]:
    """Keeps the gradients of large embedding tables, and denormal numbers, from costing more than the training.

    A dense gradient of a large table is allocated and zeroed anew at every step, although a batch touches few of its
    rows. Inside this block such tables report the touched rows only, and the yielded function adds these into a dense
    gradient that is kept from step to step: the optimizer sees what it would have seen. Adam's momentum of a row that
    is not touched for hundreds of steps decays into denormal numbers, which are slow; they are flushed to zero.
    """
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings > 8 * batch_size and not m.sparse]
    kept: dict[Tensor, tuple[Tensor, Tensor]] = {}  # parameter -> its dense gradient, the rows written last

    def densify(parameters) -> None:
        for parameter in parameters if tables else ():
            if parameter.grad is None or not parameter.grad.is_sparse:
                continue
            rows, values = parameter.grad._indices()[0], parameter.grad._values()
            gradient, written = kept.get(parameter) or (torch.zeros_like(parameter), rows[:0])
            gradient.index_fill_(0, written, 0).index_add_(0, rows, values)
            kept[parameter] = gradient, rows
            parameter.grad = gradient

    for table in tables:
        table.sparse = True
    torch.set_flush_denormal(True)
    try:
        yield densify
    finally:
        torch.set_flush_denormal(False)
        for table in tables:
            table.sparse = False


class _Checkpoint:
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
            warnings.warn(f"{self.path} cannot be read ({error!s:.80}); the run starts from its beginning", stacklevel=4)
            return
        if saved["key"] != self.key:
            raise ValueError(f"{self.path} belongs to a run with other settings; delete it or name another file")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.next_step, self.points = saved["next_step"], saved["points"]
        self.best = saved["best"]

    def save(self, next_step: int) -> None:
        if not self.path or time.monotonic() - self.saved_at < CHECKPOINT_SECONDS:
            return
        state = dict(key=self.key, model=self.model.state_dict(), optimizer=self.optimizer.state_dict())
        self.saved_at = time.monotonic()
        try:
            with replacing(self.path) as temporary:
                torch.save(state | dict(next_step=next_step, points=self.points, best=self.best), temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as either
            warnings.warn(f"no checkpoint at {self.path} ({error!s:.200}): is the disk full? training goes on without", stacklevel=3)
