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
# # 07 · Your own loss
#
# **Question.** How is a loss of your own tried here, and does it do better than CE, T-CE and R-CE?
#
# **Reads** a file with losses, `examples/robust_losses.py` · **Writes** runs, `figures/<dataset>/own_loss_curves.*`, `results/<dataset>/tables/own_loss.*` · **Takes** 20 seconds for `toy`; it is opened by hand, `./run_all.sh --method FILE` does the same in all other notebooks · **Source** of the two losses: named in the file.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
from IPython.display import Markdown

from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table
from replication.runs import store
from replication.runs.map import map_runs
from replication.runs.parameters import resolve
from replication.runs.settings import plan
from replication.support import paths

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% jupyter={"source_hidden": true} tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# ## The losses
#
# A file of your own goes here. Each of its functions with exactly the parameters `(logits, labels, step)` is a loss, and joins the comparison under its name.

# %%
file = "examples/robust_losses.py"  # a path in the project, or a whole one
Markdown(f"```python\n{(paths.PROJECT / file).read_text()}\n```")

# %% [markdown]
# ## The runs
#
# Each loss trains the same GMF with the same seeds: equal initial weights, negatives and batches. A run is known by the content of the file too: after an edit, start again from here, and the edited losses are trained anew; the others are read from disk.

# %% tags=["nbval-check-output"]
parameters = resolve(dataset, {"backbones": ["GMF"], "test_curve": True, "own_methods": [file]} | changes)
settings = plan(parameters.all_methods(), parameters)
note = store.note(parameters)
tables.settings_table(settings)

# %% [markdown]
# What is not on disk is computed now.

# %%
runs = map_runs(settings, parameters.jobs, label="07: all methods", use_records=parameters.use_records)

# %% [markdown]
# ## The comparison
#
# Means over test users and seeds ± half the 95 % t-interval over seeds; Δ is the change against CE, paired by seed, ± half its interval; the best of each backbone is bold. ▲ better, ▼ worse and = no effect stand in the primary cells; your own loss is tested in a family apart (docs/statistics.md). Nothing was tuned for the losses of the file: to choose among versions of a loss, compare them on validation, as `docs/extending.md` says, never in this table.

# %%
table = tables.main_table(runs, note, primary=True)
publish_table(table, dataset, "own_loss", note, shown=tables.readable(table))

# %% [markdown]
# The same, counted.

# %%
tables.summary(table)

# %% [markdown]
# ## Better loss, or longer training?
#
# Test Recall along training, for analysis only, with a dot where each method's **own** validation loss selected. A loss whose minimum comes later has trained longer, which alone may change the metrics. R-CE and generalised cross-entropy have the same gradient but for its exponent (`docs/extending.md`).

# %%
points, k = figures.histories(runs), max(parameters.top_k)
publish_figure(
    figures.curves(points, {f"recall_{k}_test": f"test Recall@{k}", "valid_loss": "own validation loss"}),
    points, dataset, "own_loss_curves", "Test Recall and own validation loss against optimizer steps", note,
)

# %% [markdown]
# A mark in this table says that a loss ranks better than CE here. It does not say that the loss denoises: for that it must gain more than controls that drop as many positives for another reason, at the same step and under other rules of selection. `./run_all.sh --full --method examples/robust_losses.py toy` makes those tables (05_diagnostics).
