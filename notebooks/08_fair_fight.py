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
# # 08 · A fair fight: does adaptive denoising denoise?
#
# **Question.** When CE is tuned, stopped and selected by the same rule as T-CE and R-CE, what do these still gain? And is it by leaving out false positives?
#
# **Reads** the data · **Writes** `figures/<dataset>/fair_*`, `results/<dataset>/tables/fair_*` · **Takes** under a minute for `toy`, hours for `ml100k`; `run_all.sh --study fair` runs it · **Source** the comparison is ours; the methods are those of arXiv:2006.04153 and our controls.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from replication.methods import METHODS, PAPER
from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.runs import store
from replication.runs.map import map_runs
from replication.runs.parameters import FairParameters, resolve
from replication.runs.recipe import split_for
from replication.studies import fair

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% jupyter={"source_hidden": true} tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# The parameters: seeds of the random splits, and the options that `tools/tune.py --fair` chose for each loss with as many trials for CE as for T-CE.

# %% jupyter={"source_hidden": true}
parameters = resolve(dataset, changes)
show_parameters(parameters, FairParameters)

# %% [markdown]
# The methods. What leaves out *positives by their loss* is T-CE's idea; the others leave out as many for another reason, or know the flags.

# %% tags=["nbval-check-output"]
note = store.note(parameters)
settings = fair.planned(parameters)
methods = list(dict.fromkeys(run.method for run in settings))
pd.DataFrame({"what it does": {name: METHODS[name].about for name in methods}}).rename_axis("method")

# %% [markdown]
# Every run trains until it has turned: its drop rate has reached the maximum, and for 20 evaluation points neither Recall on the (noisy) validation part nor its own validation loss has been better; at most five times the epochs of the main table. Runs that are on disk are read.

# %%
runs = map_runs(settings, parameters.jobs, label="08: all runs", use_records=parameters.use_records)
k = max(parameters.top_k)

# %% [markdown]
# Where the runs stopped. One that has not `turned` met the cap, so its best may lie further on.

# %%
stopped = fair.stops(runs)
publish_table(stopped, dataset, "fair_stops", note, shown=stopped.set_index(["backbone", "method"]))

# %% [markdown]
# ## Who is better?
#
# Three rules choose the step whose weights are kept. *validation Recall* is what a practitioner without flags has, and the same for all: the comparison of this notebook. *own loss* is the paper's rule. *CE's step* asks at one step. Each line is the change of a method against CE under the same rule, paired by split; bars are 95 % intervals.

# %%
at = fair.points(runs, k)
changed = fair.against_ce(at, k)
named = tables.with_metric(changed[changed["method"] != "CE"])
drawn = named.assign(mean=named["change"], low=named["change_low"], high=named["change_high"], measured="change of " + named["measured"])
publish_figure(
    figures.panels(drawn, x="rule", line="method", column="backbone", row="measured", xlabel="", named=True, ordered=False, zero=0),
    drawn, dataset, "fair_change", "Change against CE under three rules of selection", note,
)

# %% [markdown]
# The same in numbers, under the fair rule. ▲ better, ▼ worse and = no effect stand in the primary cells (docs/statistics.md); everything else is exploratory.

# %%
publish_table(changed, dataset, "fair_change", note, shown=tables.readable(changed[changed["rule"] == fair.FAIR_RULE]))

# %% [markdown]
# ## How much of the possible gain?
#
# What perfect knowledge of the flags gains over CE is the *headroom*: the larger mean gain of oracle-drop and clean-only. A method's *share* is its gain over that: 0 is no denoising, 1 is all of it. Where the interval of the headroom reaches 0, nothing can be said about denoising.

# %%
room = fair.headroom(at)
publish_table(room, dataset, "fair_headroom", note, shown=tables.rounded(room, ["backbone", "method"]))

# %% [markdown]
# The bar is the headroom; a point is a method's gain with its 95 % interval over splits.

# %%
figure = Figure(figsize=(7, 0.8 + 1.6 * room["backbone"].nunique()), layout="constrained")
axes, styles = figure.subplots(room["backbone"].nunique(), squeeze=False)[:, 0], figures.styles_of(methods)
for axis, (backbone, rows) in zip(axes, room.groupby("backbone", sort=False)):
    axis.barh(len(rows) / 2, rows["headroom"].iloc[0], height=len(rows), color="#DDDDDD", label="headroom")
    for place, row in enumerate(rows.itertuples()):
        error = [[row.change - row.change_low], [row.change_high - row.change]]
        look = dict(color=styles[row.method].color, marker=styles[row.method].marker)
        axis.errorbar(row.change, place, xerr=error, capsize=2, label=row.method, **look)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(ylabel=backbone, yticks=[], xlabel=f"change of Recall@{k} against CE")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
publish_figure(figure, room, dataset, "fair_headroom", "Gain over CE beside the gain of perfect knowledge", note)

# %% [markdown]
# ## Does gain follow precision?
#
# At CE's step: how much each method gains, against the share of false positives among what it leaves out. If a method gains because it leaves out false positives, points further right lie higher. *rare-true-drop* leaves out no false positive, *matched-oracle* takes T-CE's popularity and the flags, *decile-drop* takes the loss and no popularity.

# %% tags=["data"]
splits = {run.settings.seed: split_for(run.settings) for run in runs if run.settings.method == "CE"}
followed = fair.gain_and_precision(at, splits)
figure = Figure(figsize=(1.5 + 3.2 * followed["backbone"].nunique(), 3.2), layout="constrained")
axes = figure.subplots(1, followed["backbone"].nunique(), squeeze=False, sharey=True)[0]
for axis, (backbone, rows) in zip(axes, followed.groupby("backbone", sort=False)):
    for row in rows.itertuples():
        error = [[row.gain - row.gain_low], [row.gain_high - row.gain]]
        look = dict(color=styles[row.method].color, marker=styles[row.method].marker)
        axis.errorbar(row.precision, row.gain, yerr=error, capsize=2, label=row.method, linestyle="none", **look)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(title=backbone, xlabel="share of false positives in what is left out")
axes[0].set_ylabel(f"gain in Recall@{k} over CE")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
publish_figure(figure, followed, dataset, "fair_precision", "Gain over CE against the precision of what is left out", note)

# %% [markdown]
# ## Where does the gain lie?
#
# Recall in each tenth of item popularity (1 the rarest), under the fair rule: the change against CE.

# %%
lies = fair.where_it_lies(runs, k)
of_tenths = lies[lies["metric"].str.startswith("recall_tenth_") & lies["method"].isin(PAPER[1:])]
of_tenths = of_tenths.assign(tenth=of_tenths["metric"].str.split("_").str[-1].astype(int), row=f"change of Recall@{k}")
of_tenths = of_tenths.assign(mean=of_tenths["change"], low=of_tenths["change_low"], high=of_tenths["change_high"])
publish_figure(
    figures.panels(of_tenths, x="tenth", line="method", column="backbone", row="row", xlabel="tenth of popularity", zero=0),
    of_tenths, dataset, "fair_tenths", "Change of Recall by tenth of item popularity", note,
)

# %% [markdown]
# How popular what is ranked is, and Recall that weighs each test item by one over its popularity.

# %%
others = lies[lies["metric"].isin(["popularity", "recall_ips"])]
publish_table(lies, dataset, "fair_popularity", note, shown=tables.rounded(others.drop(columns=["p"]), ["backbone", "method", "metric"]))

# %% [markdown]
# From which tenth the dropped positives come; a tenth of them would come from each if popularity played no part.

# %%
gone = fair.dropped_by_tenth(runs)
publish_table(gone, dataset, "fair_dropped", note, shown=tables.wide(gone.assign(cell=gone["mean"].map("{:.2f}".format)), ["backbone", "method"], "tenth"))

# %% [markdown]
# ## Is the loss a detector of false positives?
#
# The chance that a false positive of the training part has a larger loss than a true one, while CE trains: .5 is chance. The dotted line is rarity: the same for the item's popularity, which needs no model.

# %% tags=["data"]
found = fair.detector(runs)
of_loss = found[found["measure"] == "loss_auc"].assign(line="CE's loss", row="AUC for false positives")
rarity = np.mean([fair.rarity_auc(split) for split in splits.values()])
figure = figures.panels(of_loss, x="step", line="line", column="backbone", row="row", xlabel="optimizer step", zero=0.5)
for axis in figure.axes:
    axis.axhline(rarity, color="#777777", linestyle=":")
publish_figure(figure, of_loss.assign(rarity=rarity), dataset, "fair_detector", "The loss as a detector of false positives", note)

# %% [markdown]
# Is noise memorised? The loss of false positives that are trained on, beside that of those held out for validation.

# %% tags=["data"]
memory = found[found["measure"].isin(["loss_false", "valid_loss_false"])].assign(row="loss of false positives")
memory = memory.assign(line=memory["measure"].map({"loss_false": "false positives", "valid_loss_false": "false positives, held out"}))
publish_figure(
    figures.panels(memory, x="step", line="line", column="backbone", row="row", xlabel="optimizer step"),
    memory, dataset, "fair_memory", "Loss of false positives that are trained on and held out, under CE", note,
)
