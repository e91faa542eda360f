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
# # 03 · R-CE: let hard samples weigh less
#
# **Question.** Does weighting every sample by the model's own belief in its label rank held-out true positives better than plain cross-entropy?
#
# **Reads** `data/<dataset>/` · **Writes** runs, `figures/<dataset>/rce_*`, `results/<dataset>/tables/rce.csv` · **Takes** half a minute for `toy`, 4 to 6 minutes for `ml100k` on 2 cores · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

# %%
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.runs.map import map_runs
from replication.runs.parameters import RunParameters, resolve
from replication.runs.settings import plan
from replication.runs import store

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# The parameters, read from the file of the data set. What is changed is named here, and again on every table and figure.

# %%
parameters = resolve(dataset, changes)
show_parameters(parameters, RunParameters)

# %% [markdown]
# A run is one (data set, backbone, method, seed, settings). This is the list of those that this notebook needs: plain cross-entropy (CE) and R-CE. One row per backbone and method, with the settings that are its own. `note` is empty unless a parameter differs from the data set's file.

# %% tags=["nbval-check-output"]
settings = plan(["CE", "R-CE"], parameters)
note = store.note(parameters)
tables.settings_table(settings)

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
# ## The weight
#
# Left: the weight of a positive against its predicted probability, for some exponents. Right: the weighted loss. For β above 0 it peaks at $p = e^{-1/\beta}$ (dots) and falls again below that: a model that is confidently wrong has a *small* R-CE loss. In training that does not matter, since the weight has no gradient; in a validation loss that selects the weights, it can.

# %%
weights = figures.weight_points([0, 0.05, 0.1, 0.25, 0.5, 1])
publish_figure(
    figures.weight_figure(weights), weights, dataset, "rce_weight",
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
# Means over test users and seeds ± half the 95 % t-interval over seeds; in parentheses the change against CE, paired by seed, ± half its interval. ▲ better and ▼ worse mark changes whose t-test has p below 0.05 after Holm's correction over this table. Everything else is unresolved by these seeds, whatever its sign, even where an interval leaves out 0.

# %%
table = tables.main_table(runs, note)
publish_table(table, dataset, "rce", note, shown=tables.readable(table))

# %% [markdown]
# The same, counted.

# %%
tables.summary(table)

# %% [markdown]
# Every run is there, and every metric is a share.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("all between 0 and 1:", bool(table["mean"].between(0, 1).all()))
