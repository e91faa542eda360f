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
# # 04 · Tables
#
# **Question.** On this data set, with these backbones and seeds: which of CE, T-CE and R-CE ranks held-out true positives best, and by how much more than chance?
#
# **Reads** the runs of 02 and 03 (what is missing is computed) · **Writes** `results/<dataset>/tables/main.*`, `results/<dataset>/runs.csv`, `figures/<dataset>/` · **Takes** seconds after 02 and 03 · **Source** arXiv:2006.04153.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
import pandas as pd
from IPython.display import Markdown, display

from denoise_lib.baselines import baselines
from denoise_lib.files import replacing
from replication.report import figures, published, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.report.recommend import recommend
from replication.report.verdicts import publish_study
from replication.runs.map import map_runs
from replication.runs.parameters import RunParameters, resolve
from replication.runs.recipe import split_for
from replication.runs.settings import plan
from replication.runs import store
from replication.sources import public
from replication.sources.own_table import original_ids
from replication.support import paths

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% jupyter={"source_hidden": true} tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# The parameters, read from the file of the data set. What is changed is named here, and again on every table and figure.

# %% jupyter={"source_hidden": true}
parameters = resolve(dataset, changes)
show_parameters(parameters, RunParameters)

# %% [markdown]
# All runs of the main comparison, and methods without training steps in the same protocol.

# %%
note = store.note(parameters)
planned = plan(parameters.all_methods(), parameters)
runs = map_runs(planned, parameters.jobs, label="04: all methods", use_records=parameters.use_records)
measured = lambda: {"metrics": baselines(split_for(runs[0].settings), parameters.top_k)}
untrained = store.kept("baselines", {"top_k": parameters.top_k}, measured, parameters)["metrics"]

# %% [markdown]
# ## The main table
#
# All items are ranked for every user with a test interaction; items of the user's train and valid parts are left out of the ranking. A cell is the mean over seeds ± half its 95 % t-interval, Δ the change against CE, paired by seed, ± half its interval; the best of each backbone is bold. ▲ better, ▼ worse and = no effect stand in the *primary cells*: T-CE and R-CE, Recall and NDCG at the largest K, three backbones, tested as one family (docs/statistics.md). All other cells are exploratory: read their intervals, which are not corrected for their number. Precision and MRR are in the CSV. The last rows are not trained by steps and have no seeds. *MostPop* ranks items by their training interactions, the same for every user; *MostPop (train + valid)* counts the validation part too, which no other method sees: no fair competitor, but it tells how much validation gives away of test. *ItemKNN* adds up the cosine similarities to the user's items, *EASE* is a linear item-to-item model in closed form.

# %%
table = published.with_published(
    tables.main_table(runs, note, baselines=untrained, primary=True), dataset, parameters.unlike_published()
)
table = tables.with_user_intervals(table, runs)
publish_study("main", table, dataset, note, tables.readable(table))

# %% [markdown]
# What the untrained methods were given, chosen on the noisy validation part, or why one was left out.

# %%
untrained[["method", "setting"]].drop_duplicates().fillna("").set_index("method")

# %% [markdown]
# ## How sure are the changes?
#
# *over seeds*: the 95 % t-interval, what training again would do. *over users*: the 95 % bootstrap interval of the change averaged over seeds, 10,000 resamples of the test users, what other users would do (empty where a record holds no users). *p (Holm)* decides the primary cells; *p (signs)* is that of the test that flips signs, which needs no normal distribution: with n seeds it cannot be below 2^(1-n). *detectable*: the least true change that the corrected family would find four times in five; an unresolved cell says nothing about smaller ones.

# %%
rows = tables.with_metric(tables.changed(table))
signed = rows[["change", "change_low", "change_high", "user_low", "user_high"]].apply(tables.spread, sign="+")
cells = {"change": signed["change"], "over seeds": signed["change_low"] + " to " + signed["change_high"]}
cells["over users"] = signed["user_low"] + " to " + signed["user_high"]
cells |= {name: rows[of].map("{:.4f}".format) for name, of in {"p": "p", "p (Holm)": "p_holm", "p (signs)": "p_signs", "detectable": "detectable"}.items()}
shown = pd.DataFrame(cells | {"against CE": rows["against_ce"].fillna("exploratory")}).replace(r"^\W?nan.*$", "–", regex=True)
shown = shown.set_index(tables.cell_index(rows))
publish_table(table[table["change"].notna()], dataset, "statistics", note, shown=shown)

# %% [markdown]
# ## Beside the published numbers
#
# A published number is one run. *reproduced*: our mean is within ±4 % of it. *within seed noise*: it is not, but the published number lies in the 95 % prediction interval for one further run of ours, mean ± t·s·√(1 + 1/n). *one more run* is half that interval relative to our mean: where it is wide, the verdict is cheap. *not reproduced (higher)* or *(lower)* says where ours lies.

# %%
if table["published"].notna().any():
    display(publish_table(published.beside_published(table), dataset, "published", note))
else:
    display(Markdown("The paper has no numbers for this data set."))

# %% [markdown]
# ## The changes at a glance
#
# Method minus CE with its 95 % interval. The intervals are not corrected for their number; what is decided stands in the table above. Look at the width first: an effect smaller than that cannot be seen with these seeds.

# %%
publish_figure(
    figures.change_figure(table), table.dropna(subset="change"), dataset, "change_against_ce",
    "Change of Recall and NDCG against CE with 95 % intervals, by backbone and method", note,
)

# %% [markdown]
# ## Test metrics along training (analysis only)
#
# Test Recall and NDCG at the larger K at every evaluation point, with a dot where the own validation loss selected. **No number of any table was chosen on this curve.** Where a dot lies well below its curve's maximum, the selection rule costs more than the methods differ by.

# %%
points = figures.histories(runs)
k = max(parameters.top_k)
if parameters.test_curve:
    shown = {f"recall_{k}_test": f"test Recall@{k}", f"ndcg_{k}_test": f"test NDCG@{k}"}
else:
    shown = {"valid_loss": "own validation loss"}
publish_figure(
    figures.curves(points, shown), points, dataset, "test_curves",
    "Test metrics of all methods against optimizer steps, with the selected step", note,
)

# %% [markdown]
# ## Better loss, or longer training?
#
# The methods are selected by different losses and so at different steps. *own steps* repeats the main table's change. *same step* compares with CE at the step that the method selected, read from CE's curve: what remains is not explained by training longer. Marks as above; each column is a family of its own. Where a change is clear in the first column and gone in the second, the selection rule made it, not the loss. CE may have overfitted by a late step, which favours the method there: the curves above show it. Runs without such a curve are left out.

# %%
with_curve = [run for run in runs if f"recall_{k}_test" in run.history]
if with_curve:
    same_step = tables.same_step_table(with_curve, parameters.top_k)
    at_k = tables.readable_same_step(same_step[same_step["k"] == k])
    display(publish_study("same_step", same_step, dataset, note, at_k))
else:
    display(Markdown("Set `test_curve` to true to see this."))

# %% [markdown]
# ## Over the published curves
#
# Our loss curves (black, a thin line per seed) over those of the authors' logs (dashed), with selected steps as dots and diamonds. Their validation loss is a sum of batch means, as ours is under `protocol: authors`. Curves that agree from the first point on say that data, sampling, loss and optimizer agree; where they part late, training does.

# %%
theirs = published.published_curves(dataset).merge(points[["backbone", "method"]].drop_duplicates())
both = pd.concat([points.assign(of="ours"), theirs.assign(of="published")], ignore_index=True)
of_both = both.merge(theirs[["backbone", "method"]].drop_duplicates())
if len(theirs):
    display(publish_figure(
        figures.curves(of_both, {"valid_loss": "own validation loss"}, column="method", line="of"), both, dataset,
        "published_valid_loss", "Our validation loss over the published one, by backbone and method", note,
    ))
else:
    display(Markdown("The authors published no logs for this data set."))

# %% [markdown]
# The same for the training loss; ours is the mean since the last point, theirs as it was logged.

# %%
if len(theirs):
    display(publish_figure(
        figures.curves(of_both, {"train_loss": "training loss"}, column="method", line="of"), both, dataset,
        "published_train_loss", "Our training loss over the published one, by backbone and method", note,
    ))

# %% [markdown]
# ## Users with and without training rows
#
# A *warm* user has at least one training interaction; a *cold* one keeps the embedding that was drawn at random, so a model can rank by little more than popularity there. First the warm ones; where all test users are warm, this repeats the main table.

# %%
warm = tables.main_table(runs, note, users="warm", baselines=untrained)
publish_table(warm, dataset, "main_warm_users", note, shown=tables.readable(warm))

# %% [markdown]
# The cold ones.

# %%
if (untrained["users"] == "cold").any():
    cold = tables.main_table(runs, note, users="cold", baselines=untrained)
    display(publish_table(cold, dataset, "main_cold_users", note, shown=tables.readable(cold)))
else:
    display(Markdown("Every test user has training rows."))

# %% [markdown]
# ## Validation beside test
#
# Recall and NDCG on the noisy validation part, training items left out: its truth holds false positives, so its level is not comparable with test. It shows what a reader without flags would see.

# %%
valid = tables.main_table(runs, note, part="valid")
publish_table(valid, dataset, "main_validation", note, shown=tables.readable(valid))

# %% [markdown]
# ## Recommendations
#
# The five best items that a saved run recommends to the first three users. Items that a user has in train, valid or test are left out; a disliked one that left the test part may come up. Ids are those of the table that the data were made from (`users.csv`, `items.csv`), or else the numbers of the files. The probability orders items of one user; it says nothing about how likely a click is.

# %%
saved = next((run for run in runs if not run.is_record), None)
recommended = recommend(saved, original_ids(dataset, "users")[:3], 5) if saved else "Left out: records hold no weights."
recommended

# %% [markdown]
# ## Reproducibility card
#
# The data, by SHA-256 of each file.

# %% tags=["data"]
pd.Series(public.checksums(dataset), name="SHA-256").rename_axis("file").to_frame()

# %% [markdown]
# What the runs were computed with. Two values in a line mean that the runs were not all made in one environment.

# %%
environments = pd.DataFrame([run.info["environment"] for run in runs])
environments.agg(lambda values: ", ".join(sorted(set(values)))).rename_axis("what").to_frame("value")

# %% [markdown]
# One row per run: settings, selected step, all means, wall time. The full table is `results/<dataset>/runs.csv`.

# %%
every_run = tables.runs_table(runs)
with replacing(paths.results(dataset) / "runs.csv") as file:
    every_run.to_csv(file, index=False)
every_run[["backbone", "method", "seed", "selected_step", f"test_recall_{k}", f"test_ndcg_{k}", "seconds"]]

# %% [markdown]
# Every run is in the table, and the seeds are paired.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("seeds per cell:", sorted(table["n_seeds"].unique().tolist()))
