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
# # 02 · T-CE: leave out the hardest positives
#
# **Question.** Does leaving the largest-loss positives out of each batch rank held-out true positives better than plain cross-entropy?
#
# **Reads** `data/<dataset>/` · **Writes** runs, `figures/<dataset>/tce_*`, `results/<dataset>/tables/tce.csv` · **Takes** half a minute for `toy`, 6 to 11 minutes for `ml100k` on 2 cores · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

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
# A run is one (data set, backbone, method, seed, settings). This is the list of those that this notebook needs: plain cross-entropy (CE) and T-CE. One row per backbone and method, with the settings that are its own. `note` is empty unless a parameter differs from the data set's file.

# %% tags=["nbval-check-output"]
settings = plan(["CE", "T-CE"], parameters)
note = store.note(parameters)
tables.settings_table(settings)

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
# ## The drop-rate schedule
#
# Drop rate against steps: the ramp as it is set (dotted) and the part that training reaches (solid); the title gives the highest rate reached, of the nominal maximum. Where a run ends early on the ramp, T-CE is nearly CE.

# %%
schedule = figures.schedule_points(settings)
publish_figure(
    figures.schedule_figure(schedule), schedule, dataset, "tce_schedule",
    "T-CE's drop rate against optimizer steps, nominal and reached", note,
)

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
# Means over test users and seeds ± half the 95 % t-interval over seeds; in parentheses the change against CE, paired by seed, ± half its interval. ▲ better and ▼ worse mark changes whose t-test has p below 0.05 after Holm's correction over this table. Everything else is unresolved by these seeds, whatever its sign, even where an interval leaves out 0.

# %%
table = tables.main_table(runs, note)
publish_table(table, dataset, "tce", note, shown=tables.readable(table))

# %% [markdown]
# The same, counted.

# %%
tables.summary(table)

# %% [markdown]
# Every run is there, and every metric is a share.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("all between 0 and 1:", bool(table["mean"].between(0, 1).all()))
