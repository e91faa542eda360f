# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
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
# # 07 · A loss of one's own
#
# **Question.** How is a new loss tried here, and does it do better than CE, T-CE and R-CE?
#
# **Reads** the data · **Writes** nothing: this notebook calls `fit` directly, outside the run cache, so each opening trains anew · **Takes** 20 seconds for `toy`; it is opened by hand, `run_all.sh` does not run it · **Source** symmetric cross-entropy: Wang et al., ICCV 2019, arXiv:1908.06112, here for two classes [formula from memory].

# %%
try:
    from itertools import product

    import pandas as pd
    import torch
    from tqdm import tqdm

    from denoise_lib import datasets, report
    from denoise_lib.evaluation import evaluate, ranking_task
    from denoise_lib.losses import cross_entropy, drop_rate_at, reweighted_cross_entropy, truncated_cross_entropy
    from denoise_lib.models import GMF
    from denoise_lib.settings import value_for
    from denoise_lib.statistics import interval
    from denoise_lib.train import fit
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"{missing.name} is not installed in this kernel. Clone the project, run `pip install -e <its folder>` "
        "in this kernel's environment (see README.md), then restart the kernel."
    ) from None

# %% [markdown]
# The parameters. Opened by hand, this notebook runs on the toy data set.

# %% tags=["parameters"]
# Defaults are the toy data set's; for another one, take the values of params/<dataset>.yaml. The backbone is GMF.
dataset: str = "toy"  # names params/<dataset>.yaml and data/<dataset>/
seeds: list[int] | dict[str, list[int]] = [1, 2, 3]  # one run each; intervals are over them
dim: int = 16  # width of the embeddings and of the tower's last layer
batch_size: int = 256  # rows, positives and negatives together
lr: float = 0.003  # Adam's learning rate
n_negatives: int = 1  # sampled per positive, anew each epoch
epochs: int | dict[str, int] = 12  # passes over the training data
eval_every: int = 25  # steps between evaluation points
top_k: list[int] = [5, 20]  # cut-offs of the metrics
max_drop_rate: float | dict[str, float] = 0.1  # T-CE: share of the batch dropped after the ramp
ramp_steps: int | dict[str, int] = 300  # T-CE: optimizer steps to the maximum
beta: float | dict[str, float] = 0.25  # R-CE: exponent of the weight

# %% [markdown]
# ## The loss
#
# A loss is a function of logits, labels (1 for an observed interaction, 0 for a sampled negative) and the optimizer step, that gives a scalar. Symmetric cross-entropy adds to CE the *reverse* cross-entropy, in which prediction and label change places: $-p \log y - (1 - p) \log(1 - y)$, with $\log 0$ set to $-4$. For two classes that is $4\,|y - p|$: bounded, so a wrong label cannot pull without limit.


# %%
def symmetric_cross_entropy(logits, labels, step, weight=0.5, log_of_zero=-4.0):
    """CE + weight x reverse CE, the mean over the batch."""
    reverse = -log_of_zero * (labels - torch.sigmoid(logits)).abs()
    return cross_entropy(logits, labels) + weight * reverse.mean()


# %% [markdown]
# The three of the paper in the same form. The step counts for T-CE alone, whose drop rate ramps up.

# %%
rate, ramp, exponent, n_epochs, all_seeds = (
    value_for("GMF", name, globals()[name]) for name in ("max_drop_rate", "ramp_steps", "beta", "epochs", "seeds")
)
losses = {
    "CE": lambda logits, labels, step: cross_entropy(logits, labels),
    "T-CE": lambda logits, labels, step: truncated_cross_entropy(logits, labels, drop_rate_at(step, rate, ramp)),
    "R-CE": lambda logits, labels, step: reweighted_cross_entropy(logits, labels, exponent),
    "symmetric CE (own)": symmetric_cross_entropy,
}

# %% [markdown]
# ## Training
#
# Each loss trains the same GMF with the same seeds: equal initial weights, negatives and batches. Each is selected by its own loss on the noisy validation part, as everywhere here, and tested on true positives.

# %%
torch.set_num_threads(1)  # as the cached runs have; small models gain nothing from more
split = datasets.load(dataset).without_duplicates()
task = ranking_task(split, split.test, [split.train, split.valid])
rows = []
for (method, loss_fn), seed in tqdm(list(product(losses.items(), all_seeds)), desc="07: trainings"):
    model = GMF(split.n_users, split.n_items, dim, torch.Generator().manual_seed(seed))
    history = fit(
        model, split, loss_fn, epochs=n_epochs, seed=seed, batch_size=batch_size, lr=lr, n_negatives=n_negatives, eval_every=eval_every
    )
    for metric, values in evaluate(model, task, top_k).items():
        for k, value in zip(top_k, values.mean(axis=0)):
            rows.append((method, seed, history.selected_step, f"{report.METRIC_NAMES[metric]}@{k}", value))
values = pd.DataFrame(rows, columns=["method", "seed", "selected_step", "metric", "value"])

# %% [markdown]
# ## The comparison
#
# Means over seeds, and in brackets the 95 % interval of the change against CE, paired by seed. An interval that holds 0 leaves the change unresolved; with a handful of seeds most will. Nothing here was tuned, and the weight 0.5 is a guess: a loss of one's own deserves the tuning on validation that `tools/tune.py` gives the others.

# %%
by_seed = values.pivot(index=["method", "seed"], columns="metric", values="value")
changes = by_seed - by_seed.loc["CE"].reindex(by_seed.index, level="seed")
table = by_seed.groupby("method").mean().loc[list(losses)].map("{:.4f}".format)
for method in list(losses)[1:]:
    for metric in table.columns:
        _, low, high = interval(changes.loc[method, metric])
        table.loc[method, metric] += f"  ({low:+.4f}, {high:+.4f})"
table[[f"{name}@{k}" for k in top_k for name in ("Recall", "NDCG")]]

# %% [markdown]
# Where each was selected: a loss whose validation minimum comes later has trained longer, which alone may change the metrics (see 05_diagnostics).

# %% tags=["nbval-check-output"]
values.groupby("method", sort=False)["selected_step"].agg(["min", "max"])

# %% [markdown]
# How to put a loss on the same footing as the paper's, with a run cache and in the tables, and how to write a backbone of one's own: `docs/extending.md`.
