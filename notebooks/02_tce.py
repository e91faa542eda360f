# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,jupyter
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · T-CE: leave out the hardest positives
#
# **Question.** Does leaving the largest-loss positives out of each batch rank held-out true positives better than plain cross-entropy?
#
# **Reads** `data/<dataset>/` · **Writes** runs, `figures/<dataset>/tce_*`, `results/<dataset>/tables/tce.csv` · **Takes** half a minute for `toy`, 6 to 11 minutes for `ml100k` on 2 cores · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch.nn.functional import binary_cross_entropy_with_logits

from denoise_lib.losses import cross_entropy, drop_rate_at, dropped_samples, truncated_cross_entropy
from denoise_lib.models import GMF
from denoise_lib.sampling import sample_negatives
from denoise_lib.train import fit, score_pairs
from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.runs import store
from replication.runs.map import map_runs
from replication.runs.parameters import RunParameters, resolve
from replication.runs.recipe import n_steps
from replication.runs.settings import plan
from replication.sources import public

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% jupyter={"source_hidden": true} tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# The parameters, read from the file of the data set. What is changed is named here, and again on every table and figure.

# %% jupyter={"source_hidden": true}
parameters = resolve(dataset, changes)
note = store.note(parameters)  # empty unless a parameter differs from the data set's file
show_parameters(parameters, RunParameters)

# %% [markdown]
# ## The method
#
# False positives are harder to fit early in training, so the observed interactions with the largest loss are the first suspects. T-CE leaves a growing share of them out of each batch:
#
# $$
# \mathcal L_{\text{T-CE}}(u, i) = \begin{cases} 0 & \text{if } \mathcal L_{\text{CE}}(u, i) > \tau \text{ and } \bar y_{ui} = 1 \\ \mathcal L_{\text{CE}}(u, i) & \text{otherwise} \end{cases}
# \qquad \epsilon(T) = \min(\alpha T,\, \epsilon_{\max})
# $$
#
# The mean is over what is kept. $\tau$ is set in each batch so that the share $\epsilon(T)$ of the batch is dropped at step $T$. The share is of the **batch**: with one negative per positive, twice that share of the positives goes (`DEVIATIONS.md`, D1). The case distinction is known second-hand (a public notebook version), the schedule's formula is quoted from memory; the authors' code computes this line, with $\alpha = \epsilon_{\max} / (N - 1)$ for a ramp of $N$ steps (`ramp_steps`). Our code: `denoise_lib/losses.py`, `truncated_cross_entropy` and `drop_rate_at`.

# %% [markdown]
# ## One batch
#
# A batch holds observed interactions, *positives* with label 1, and as many sampled *negatives* with label 0: items that the user has not interacted with. The flag says whether a positive is true, which means liked, or false. **The model never sees the flag.** Eight rows:

# %% tags=["nbval-check-output", "data"]
torch.set_num_threads(1)
split = public.load(dataset).without_duplicates()
rng = np.random.default_rng(0)
positives = split.train[rng.permutation(len(split.train))[: parameters.batch_size // 2]]
negatives = sample_negatives(positives.users, split.matrix(split.train), 1, rng)[:, 0]
has_flags = split.train.is_clean is not None
flags = np.where(positives.is_clean, "true", "false") if has_flags else np.full(len(positives), "unknown")
batch = pd.DataFrame(
    {
        "user": np.concatenate([positives.users, positives.users]),
        "item": np.concatenate([positives.items, negatives]),
        "label": np.repeat([1, 0], len(positives)),
        "flag": np.concatenate([flags, np.full(len(negatives), "negative")]),
    }
)
batch.iloc[[0, 1, 2, 3, -4, -3, -2, -1]]

# %% [markdown]
# A model that plain cross-entropy (CE) has trained for a quarter of its epochs gives each row a logit, and so a loss. The positives with the largest losses:

# %% tags=["data"]
users, items, labels = (torch.tensor(batch[column].to_numpy()) for column in ("user", "item", "label"))
labels = labels.float()
common = dict(seed=0, batch_size=parameters.batch_size, lr=parameters.lr)
plain = lambda logits, labels, step: cross_entropy(logits, labels)


def trained(loss_fn, epochs, eval_every=10**9):
    """GMF from the same initial weights, and the history of its training."""
    model = GMF(split.n_users, split.n_items, parameters.dim, torch.Generator().manual_seed(0))
    return model, fit(model, split, loss_fn, epochs=epochs, eval_every=eval_every, **common)


n_epochs = parameters.value("epochs", "GMF")
model, _ = trained(plain, epochs=max(1, n_epochs // 4))
logits = model(users, items).detach().requires_grad_()
losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
batch["loss"] = losses.detach().numpy()
batch.query("label == 1").sort_values("loss", ascending=False).head(8).round(4)

# %% [markdown]
# ## T-CE by hand
#
# Sort the rows by loss times label, so that negatives come first and the hardest positives last; keep all but the last $\epsilon B$ of the $B$ rows; take the mean. That is all, and the library computes the same:

# %% tags=["nbval-check-output", "data"]
drop_rate = parameters.value("max_drop_rate", "GMF")
n_kept = int((1 - drop_rate) * len(batch))
order = torch.argsort(losses * labels)
kept, dropped = order[:n_kept], order[n_kept:]
by_hand = losses[kept].mean()
by_library = truncated_cross_entropy(logits, labels, drop_rate)
assert torch.allclose(by_hand, by_library)
print(f"{len(dropped)} of {len(batch)} rows dropped, all of them positives: {bool(labels[dropped].all())}")

# %% [markdown]
# A dropped row teaches the model nothing: its gradient is exactly zero.

# %% tags=["nbval-check-output", "data"]
(gradient,) = torch.autograd.grad(by_library, logits)
left_out = dropped_samples(losses.detach(), labels, drop_rate)
assert len(left_out) == len(dropped) and not gradient[left_out].any()
print(f"{len(left_out)} dropped rows, all with a gradient of 0; {int((gradient != 0).sum())} rows with another one")

# %% [markdown]
# Were the dropped ones false positives? Dropping as many positives at random would find as large a share of false ones as there is among all positives of the batch.

# %% tags=["nbval-check-output", "data"]
if has_flags:
    is_false = batch["flag"].eq("false").to_numpy()
    n_false, by_chance = is_false[dropped].sum(), is_false[: len(positives)].mean()
    print(f"{n_false} of {len(dropped)} dropped rows are false positives: {n_false / len(dropped):.0%}; by chance {by_chance:.0%}")
else:
    print("The flags of this data set's training part are not known.")

# %% [markdown]
# ## The idea as a picture
#
# All training positives of GMF under CE at three moments, by loss: true ones and false ones, each as a share of its own number. The dashed line is the threshold $\tau$ that drops the share of positives which `max_drop_rate` asks for. T-CE works where the false ones lie further right than the true ones, and as far as they do. Look at the overlap, too: whatever lies right of the line is dropped, true or false.


# %% tags=["data"]
def losses_at(moments):
    """Each training positive's loss after so many epochs of CE."""
    part = split.train
    for epochs in moments:
        model, _ = trained(plain, epochs)
        with torch.no_grad():
            logits = score_pairs(model, part.users, part.items)
        loss = binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="none").numpy()
        flag = np.where(part.is_clean, "true positives", "false positives")
        yield pd.DataFrame({"moment": f"epoch {epochs}", "positives": flag, "loss": loss})


if has_flags:
    points = pd.concat(losses_at([max(1, n_epochs // 4), max(1, n_epochs // 2), n_epochs]), ignore_index=True)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    edges = np.linspace(0, points["loss"].quantile(0.999), 40)
    for axis, (moment, of_moment) in zip(figure.subplots(1, 3, sharey=True), points.groupby("moment", sort=False)):
        for name, group in of_moment.groupby("positives", sort=False):
            share = np.full(len(group), 1 / len(group))
            axis.hist(group["loss"], edges, weights=share, histtype="step", color=figures.STYLES[name].color, label=name)
        axis.axvline(of_moment["loss"].quantile(max(0, 1 - (1 + parameters.n_negatives) * drop_rate)), color="black", linestyle="--", label="τ at the full drop rate")
        axis.set(title=moment, xlabel="loss of a positive")
    figure.axes[0].set_ylabel("share of the positives")
    figure.axes[0].legend(frameon=False, fontsize=8)
    counts = points.groupby(["moment", "positives", pd.cut(points["loss"], edges).astype(str)], sort=False).size()
    display(publish_figure(figure, counts.rename("rows").reset_index(), dataset, "tce_idea", "Losses of true and false positives under CE at three moments of training, with T-CE's threshold", note))

# %% [markdown]
# ## Two trainings
#
# The training loop takes any loss of logits, labels and the optimizer step. T-CE needs the step, since its drop rate ramps up: early in training, when the losses say little, it drops little. GMF once with each, everything else equal:

# %% tags=["data"]
ramp = parameters.value("ramp_steps", "GMF")
truncated = lambda logits, labels, step: truncated_cross_entropy(logits, labels, drop_rate_at(step, drop_rate, ramp))
curves = [
    trained(loss_fn, min(20, n_epochs), parameters.eval_every)[1].frame.assign(method=method, backbone="GMF", seed=0, selected=False)
    for method, loss_fn in {"CE": plain, "T-CE": truncated}.items()
]
figures.curves(pd.concat(curves, ignore_index=True), {"train_loss": "training loss", "valid_loss": "own validation loss"})

# %% [markdown]
# ## All backbones, all seeds
#
# A run is one (data set, backbone, method, seed, settings). This is the list of those that this notebook needs: plain cross-entropy (CE) and T-CE. One row per backbone and method, with the settings that are its own.

# %% tags=["nbval-check-output"]
settings = plan(["CE", "T-CE"], parameters)
tables.settings_table(settings)

# %% [markdown]
# ## The drop-rate schedule
#
# Drop rate against steps: the ramp as it is set (dotted) and the part that training reaches (solid); the title gives the highest rate reached, of the nominal maximum. Where a run ends early on the ramp, T-CE is nearly CE.

# %% tags=["data"]
ramped = {run.backbone: run for run in settings if run.method == "T-CE"}
figure, frames = Figure(figsize=(1.2 + 3.1 * len(ramped), 3), layout="constrained"), []
panels = figure.subplots(1, len(ramped), sharey=True, squeeze=False)[0]
panels[0].set_ylabel("drop rate (share of the batch)")
for panel, (backbone, run) in zip(panels, ramped.items()):
    options, end = run.method_options, n_steps(run)
    steps = np.unique(np.linspace(0, max(end, int(options["ramp_steps"] * 4 / 3)), 200).astype(int))
    points = pd.DataFrame(dict(backbone=backbone, step=steps, drop_rate=[drop_rate_at(step, **options) for step in steps], reached=steps < end))
    panel.plot(points["step"], points["drop_rate"], ":", color="#777777")
    panel.plot("step", "drop_rate", data=points[points["reached"]], color="#0072B2")
    panel.set_title(f"{backbone}: reaches {drop_rate_at(end - 1, **options):.3g} of {options['max_drop_rate']}", fontsize=10)
    panel.set_xlabel("optimizer step")
    frames.append(points)
panels[0].set_ylim(bottom=0)
schedule = pd.concat(frames, ignore_index=True)
publish_figure(figure, schedule, dataset, "tce_schedule", "T-CE's drop rate against optimizer steps, nominal and reached", note)

# %% [markdown]
# ## Training
#
# Runs that are on disk are read, the others are computed now; the CE runs are shared by 02 and 03, whichever comes first. The progress bar counts runs.

# %%
runs = map_runs(settings, parameters.jobs, label="02: CE and T-CE", use_records=parameters.use_records)

# %% [markdown]
# ## Loss curves
#
# Upper row: mean loss of the training batches. Lower row: the method's **own** loss on the noisy validation part, which also chooses the weights that are kept (dots, one per seed). CE's and T-CE's losses are different functions, so compare shapes and the place of the minimum, not heights. T-CE's validation loss is truncated at the drop rate of the moment, as in the authors' code: on the ramp it falls by itself, and its minimum comes late.

# %%
points = figures.histories(runs)
publish_figure(
    figures.curves(points, {"train_loss": "training loss", "valid_loss": "own validation loss"}),
    points, dataset, "tce_loss_curves", "Training and validation loss of CE and T-CE against optimizer steps", note,
)

# %% [markdown]
# ## Which step was kept
#
# The selected step of every seed. A method that is selected at its last evaluation point had not turned yet and might go on improving its loss. `drop_rate_then` is the drop rate at the selected step, averaged over seeds: what T-CE really did to the weights that were kept.

# %%
publish_table(tables.selection_table(runs), dataset, "tce_selection", note)

# %% [markdown]
# ## Does it rank better?
#
# Means over test users and seeds ± half the 95 % t-interval over seeds; Δ is the change against CE, paired by seed, ± half its interval; the best of each backbone is bold. The intervals are not corrected for their number: which changes are decided is a matter of all losses at once, and stands in 04_tables (docs/statistics.md).

# %%
table = tables.main_table(runs, note)
publish_table(table, dataset, "tce", note, shown=tables.readable(table))

# %% [markdown]
# Every run is there, and every metric is a share.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("all between 0 and 1:", bool(table["mean"].between(0, 1).all()))
