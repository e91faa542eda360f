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
# # 03 · R-CE: let hard samples weigh less
#
# **Question.** Does weighting every sample by the model's own belief in its label rank held-out true positives better than plain cross-entropy?
#
# **Reads** `data/<dataset>/` · **Writes** runs, `figures/<dataset>/rce_*`, `results/<dataset>/tables/rce.csv` · **Takes** half a minute for `toy`, 4 to 6 minutes for `ml100k` on 2 cores · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch.nn.functional import binary_cross_entropy_with_logits

from denoise_lib.losses import cross_entropy, reweighted_cross_entropy
from denoise_lib.models import GMF
from denoise_lib.sampling import sample_negatives
from denoise_lib.train import fit, score_pairs
from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.runs import store
from replication.runs.map import map_runs
from replication.runs.parameters import RunParameters, resolve
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
# Instead of a threshold, R-CE lowers the weight of whatever the model finds hard to believe, softly and from the first step:
#
# $$
# \mathcal L_{\text{R-CE}}(u, i) = \omega(u, i)\, \mathcal L_{\text{CE}}(u, i), \qquad \omega(u, i) = \begin{cases} \hat y_{ui}^{\,\beta} & \text{if } \bar y_{ui} = 1 \\ (1 - \hat y_{ui})^{\beta} & \text{otherwise} \end{cases}
# $$
#
# The weight $\omega$ is a constant for the gradient, and $\beta = 0$ is CE. The form is that of the authors' code. Our code: `denoise_lib/losses.py`, `reweighted_cross_entropy`.

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
# ## R-CE by hand
#
# Each row's loss is multiplied by the probability that the model gives to the row's label, to the power β. The weight is a constant: no gradient flows through it. The library computes the same:

# %% tags=["nbval-check-output", "data"]
beta = parameters.value("beta", "GMF")
p = torch.sigmoid(logits.detach())
weights = torch.where(labels == 1, p**beta, (1 - p) ** beta)
by_hand = (weights * losses).mean()
by_library = reweighted_cross_entropy(logits, labels, beta)
assert torch.allclose(by_hand, by_library)
print(f"weights from {weights.min():.2f} to {weights.max():.2f}")

# %% [markdown]
# Which positives weigh least? On average a false positive should weigh less than a true one. By how much it does:

# %% tags=["nbval-check-output", "data"]
batch["weight"] = weights.numpy()
batch.query("label == 1").groupby("flag")["weight"].agg(["count", "mean", "min"]).round(3)

# %% [markdown]
# ## An old acquaintance
#
# R-CE's gradient is that of *generalised cross-entropy*, $(1 - p^q) / q$ with $q = \beta$, where $p$ is the probability given to the label (Zhang and Sabuncu, NeurIPS 2018). That loss was made for wrong labels: it lies between cross-entropy (q towards 0) and the mean absolute error (q = 1). Only the values of the two losses differ, and with them what the validation loss selects.

# %% tags=["nbval-check-output", "data"]
given_to_label = torch.exp(-losses)
generalised = ((1 - given_to_label**beta) / beta).mean()
(of_generalised,) = torch.autograd.grad(generalised, logits, retain_graph=True)
(of_reweighted,) = torch.autograd.grad(by_library, logits)
assert torch.allclose(of_generalised, of_reweighted)
print("the gradients are equal")

# %% [markdown]
# ## The idea as a picture
#
# All training positives of GMF under CE at three moments, by the probability that the model gives them: true ones and false ones, each as a share of its own number. The dotted line is the weight. R-CE helps where the false ones lie further left, where the weight is low, than the true ones.


# %% tags=["data"]
def probabilities_at(moments):
    """The probability of each training positive after so many epochs of CE."""
    part = split.train
    for epochs in moments:
        model, _ = trained(plain, epochs)
        with torch.no_grad():
            p = torch.sigmoid(score_pairs(model, part.users, part.items)).numpy()
        flag = np.where(part.is_clean, "true positives", "false positives")
        yield pd.DataFrame({"moment": f"epoch {epochs}", "positives": flag, "p": p})


if has_flags:
    points = pd.concat(probabilities_at([max(1, n_epochs // 4), max(1, n_epochs // 2), n_epochs]), ignore_index=True)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    edges = np.linspace(0, 1, 41)
    for axis, (moment, of_moment) in zip(figure.subplots(1, 3, sharey=True), points.groupby("moment", sort=False)):
        for name, group in of_moment.groupby("positives", sort=False):
            share = np.full(len(group), 1 / len(group))
            axis.hist(group["p"], edges, weights=share, histtype="step", color=figures.STYLES[name].color, label=name)
        weight = axis.twinx()
        weight.plot(edges, edges**beta, color="black", linestyle=":")
        weight.set(ylim=(0, 1.02), ylabel="weight" if axis is figure.axes[2] else "")
        axis.set(title=moment, xlabel="probability of a positive")
    figure.axes[0].set_ylabel("share of the positives")
    figure.axes[0].legend(frameon=False, fontsize=8)
    counts = points.groupby(["moment", "positives", pd.cut(points["p"], edges).astype(str)], sort=False).size()
    display(publish_figure(figure, counts.rename("rows").reset_index(), dataset, "rce_idea", "Probabilities of true and false positives under CE at three moments of training, with R-CE's weight", note))

# %% [markdown]
# ## Two trainings
#
# The training loop takes any loss of logits, labels and the optimizer step. GMF once with each, everything else equal:

# %% tags=["data"]
reweighted = lambda logits, labels, step: reweighted_cross_entropy(logits, labels, beta)
curves = [
    trained(loss_fn, min(20, n_epochs), parameters.eval_every)[1].frame.assign(method=method, backbone="GMF", seed=0, selected=False)
    for method, loss_fn in {"CE": plain, "R-CE": reweighted}.items()
]
figures.curves(pd.concat(curves, ignore_index=True), {"train_loss": "training loss", "valid_loss": "own validation loss"})

# %% [markdown]
# ## All backbones, all seeds
#
# A run is one (data set, backbone, method, seed, settings). This is the list of those that this notebook needs: plain cross-entropy (CE) and R-CE. One row per backbone and method, with the settings that are its own.

# %% tags=["nbval-check-output"]
settings = plan(["CE", "R-CE"], parameters)
tables.settings_table(settings)

# %% [markdown]
# ## The weight
#
# Left: the weight of a positive against its predicted probability, for some exponents. Right: the weighted loss. For β above 0 it peaks at $p = e^{-1/\beta}$ (dots) and falls again below that: a model that is confidently wrong has a *small* R-CE loss. In training that does not matter, since the weight has no gradient; in a validation loss that selects the weights, it can.

# %%
exponents, p = [0, 0.05, 0.1, 0.25, 0.5, 1], np.linspace(0.001, 1, 500)
shapes = pd.concat([pd.DataFrame(dict(beta=one, p=p, weight=p**one, loss=-(p**one) * np.log(p))) for one in exponents], ignore_index=True)
figure = Figure(figsize=(7.4, 3), layout="constrained")
left, right = figure.subplots(1, 2)
for grey, (one, shape) in zip(np.linspace(0.75, 0, len(exponents)), shapes.groupby("beta")):
    look = dict(color=str(grey), linewidth=1.5)
    left.plot(p, shape["weight"], label=f"β = {one:g}" if one else "β = 0 (CE)", **look)
    right.plot(p, shape["loss"], **look)
    if one:
        right.plot(np.exp(-1 / one), np.exp(-1) / one, "o", color=str(grey), markersize=4)  # the peak
left.set_title("weight of a positive, $p^β$", fontsize=10)
right.set_title("weighted loss, $-p^β\\,\\log p$", fontsize=10)
right.set_ylim(0, 4)
for axis in (left, right):
    axis.set_xlabel("predicted probability p")
    axis.grid(alpha=0.25)
figure.legend(loc="outside right upper", frameon=False, fontsize=8)
publish_figure(
    figure, shapes, dataset, "rce_weight",
    "R-CE's weight and weighted loss of a positive against its predicted probability", note,
)

# %% [markdown]
# ## Training
#
# Runs that are on disk are read, the others are computed now; the CE runs are shared by 02 and 03, whichever comes first. The progress bar counts runs.

# %%
runs = map_runs(settings, parameters.jobs, label="03: CE and R-CE", use_records=parameters.use_records)

# %% [markdown]
# ## Loss curves
#
# Upper row: mean loss of the training batches. Lower row: the method's **own** loss on the noisy validation part, which also chooses the weights that are kept (dots, one per seed). CE's and R-CE's losses are different functions, so compare shapes and the place of the minimum, not heights.

# %%
points = figures.histories(runs)
publish_figure(
    figures.curves(points, {"train_loss": "training loss", "valid_loss": "own validation loss"}),
    points, dataset, "rce_loss_curves", "Training and validation loss of CE and R-CE against optimizer steps", note,
)

# %% [markdown]
# ## Which step was kept
#
# The selected step of every seed. A method that is selected at its last evaluation point had not turned yet and might go on improving its loss. Keep the falling branch of the weighted loss in mind where R-CE is selected late.

# %%
publish_table(tables.selection_table(runs), dataset, "rce_selection", note)

# %% [markdown]
# ## Does it rank better?
#
# Means over test users and seeds ± half the 95 % t-interval over seeds; Δ is the change against CE, paired by seed, ± half its interval; the best of each backbone is bold. The intervals are not corrected for their number: which changes are decided is a matter of all losses at once, and stands in 04_tables (docs/statistics.md).

# %%
table = tables.main_table(runs, note)
publish_table(table, dataset, "rce", note, shown=tables.readable(table))

# %% [markdown]
# Every run is there, and every metric is a share.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("all between 0 and 1:", bool(table["mean"].between(0, 1).all()))
