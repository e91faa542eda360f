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
# # 05 · Diagnostics: is it the denoising, or just training differently?
#
# **Question.** T-CE drops positives, follows a schedule and is selected by a loss of its own. Which of these makes the difference, if there is one? The paper's other figures, controls that drop as many positives for another reason, other rules of selection, and noise whose truth is known.
#
# **Reads** the runs of 02 and 03 and computes the controls · **Writes** `figures/<dataset>/`, `results/<dataset>/tables/` · **Takes** a minute for `toy`, about an hour for `ml100k` on 2 cores; `run_all.sh --full` runs it · **Source** arXiv:2006.04153; which of its figures these are is from memory, as its numbers are; the controls are ours.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
import pandas as pd
from IPython.display import Markdown, display

from replication.methods import PAPER
from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.report.verdicts import publish_study
from replication.runs.map import map_runs
from replication.runs.parameters import DiagnosticsParameters, resolve
from replication.runs import store
from replication.sources import public
from replication.studies import diagnostics, sensitivity

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% jupyter={"source_hidden": true} tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# The parameters, read from the file of the data set. What is changed is named here, and again on every table and figure.

# %% jupyter={"source_hidden": true}
parameters = resolve(dataset, changes)
show_parameters(parameters, DiagnosticsParameters)

# %% [markdown]
# The runs: the paper's methods and the controls, each recording at every evaluation point what this notebook looks at. What needs flags (`oracle-drop`, `clean-only`, most figures) is left out where the training part has none. `note` is empty unless a parameter differs from the data set's file.

# %% tags=["nbval-check-output"]
note = store.note(parameters)
methods = diagnostics.methods_for(parameters)
has_flags = public.has_flags(dataset)
settings = diagnostics.main_plan(parameters)
of_grids = sensitivity.sensitivity_plan(parameters)
of_doses = sensitivity.dose_plan(parameters)
left_out = Markdown("Left out: the training part has no flags, or the parameters of this data set do not ask for it.")
tables.settings_table(settings)

# %% [markdown]
# Runs that are on disk are read, the others are computed now, those of the last two sections too: the bar is for all of this notebook.

# %%
every = settings + [settings for _, settings in of_grids + of_doses]
runs = map_runs(every, parameters.jobs, label="05: all runs", use_records=parameters.use_records)[: len(settings)]
k = max(parameters.top_k)

# %% [markdown]
# ## Does clean training help at all? (Table 1 of the paper)
#
# `normal` is CE on everything, `clean` CE without the flagged false positives of train and valid; the test part is the same, and items of all observed interactions stay out of the ranking. If the clean training were no better, there would be nothing for a denoising method to gain. The paper's own numbers, **from memory**: NeuMF on Adressa Recall@20 .4040 clean against .3081 normal, NDCG@20 .1963 against .1732; on Amazon-book .0293 against .0265 and .0159 against .0145.

# %%
if "clean-only" in methods:
    clean = diagnostics.clean_training(runs)
    shown = tables.rounded(tables.with_metric(clean).drop(columns=["metric", "k"]), ["backbone", "measured"])
    display(publish_study("clean_training", clean, dataset, note, shown))
else:
    display(left_out)

# %% [markdown]
# ## When are false positives learned? (Fig. 3 of the paper)
#
# Mean cross-entropy of the training part's true and false positives under CE: over the whole training, and over its first steps. Bands are 95 % intervals over seeds. The paper's point is that the false ones are harder *early*: the gap between the lines is what T-CE can work with. A loss below 0.69 means that the model ranks the pair as liked.

# %%
if has_flags:
    losses = diagnostics.points_of(runs, {"loss_true": "true positives", "loss_false": "false positives"}, "positives")
    of_ce = losses[losses["method"] == "CE"]
    first = of_ce["step"] <= 0.2 * of_ce.groupby("backbone")["step"].transform("max")
    early = pd.concat([of_ce.assign(span="loss, whole process"), of_ce[first].assign(span="loss, first fifth")], ignore_index=True)
    display(publish_figure(
        figures.panels(early, x="step", line="positives", column="backbone", row="span", xlabel="optimizer step"),
        early, dataset, "memorisation_ce", "Loss of true and false positives under CE against steps", note,
    ))
else:
    display(left_out)

# %% [markdown]
# The same in numbers, at the selected and at the last step: mean losses, and the gap with its interval.

# %%
if has_flags:
    memorised = diagnostics.memorisation(runs)
    shown = tables.rounded(memorised, ["backbone", "point"])
    display(publish_study("memorisation", memorised, dataset, note, shown))
else:
    display(left_out)

# %% [markdown]
# The same of the *validation* positives, each with its negatives: no run trains on them, so a gap here has nothing to do with memorising. It can also be had where only the validation part has flags.

# %%
share = diagnostics.clean_share(runs, parameters)
if share < 1:
    unseen = diagnostics.held_out(runs, share)
    shown = tables.rounded(unseen, ["backbone", "point"])
    display(publish_study("memorisation_held_out", unseen, dataset, note, shown))
else:
    display(left_out)

# %% [markdown]
# ## The same under each method (Fig. 6 of the paper)
#
# A method that keeps the model from memorising false positives holds their line up while the line of the true ones falls. If both lines rise together, it holds back *all* hard positives.

# %%
if has_flags:
    main = losses[losses["method"].isin(parameters.all_methods())].assign(row="loss: " + losses["method"])
    display(publish_figure(
        figures.panels(main, x="step", line="positives", column="backbone", row="row", xlabel="optimizer step"),
        main, dataset, "memorisation_methods", "Loss of true and false positives against steps under CE, T-CE and R-CE", note,
    ))

# %% [markdown]
# ## What does T-CE drop? (Fig. 8 of the paper)
#
# Upper row, precision: the share of false positives among the dropped positives; lower row, recall: the share of the false positives that is dropped. The dotted line is what dropping as many at random gives: the share of false positives in the batch, and the share of positives dropped. Only what lies above it is detection.

# %%
if has_flags:
    dropped = diagnostics.drop_points(runs)
    display(publish_figure(
        figures.panels(dropped, x="step", line="dropping", column="backbone", row="measure", xlabel="optimizer step"),
        dropped, dataset, "drop_precision_recall", "Precision and recall of false positives among what T-CE drops", note,
    ))

# %% [markdown]
# All dropping methods at the end of training; `at_random` is the expected precision of random dropping. `oracle-drop` stays at 1 while flagged positives remain in the batch. Compare T-CE with `popularity-drop`: where that is as precise, T-CE may find false positives because they are rare items.

# %%
if has_flags:
    at_end = diagnostics.drops(runs)
    shown = tables.rounded(at_end, ["backbone", "method"])
    display(publish_study("drops", at_end, dataset, note, shown))
else:
    display(left_out)

# %% [markdown]
# ## Controls
#
# Every method and control against CE, each at the step that its own validation loss selected. `random-drop` has T-CE's schedule but no detection; `popularity-drop` drops the rarest items, `lowest-loss-drop` the easiest positives; `oracle-drop` and `clean-only` use the flags and are bounds, not methods. A method is only as good as its distance from `random-drop`. All of it is exploratory: intervals without correction.

# %%
table = tables.main_table(runs, note)
publish_table(table, dataset, "controls", note, shown=tables.readable(table))

# %% [markdown]
# The same as a figure, with 95 % intervals.

# %%
publish_figure(
    figures.change_figure(table), table.dropna(subset="change"), dataset, "controls",
    "Change of Recall and NDCG against CE of all methods and controls", note,
)

# %% [markdown]
# ## The main question: T-CE against dropping at random, and against dropping the rarest items
#
# T-CE minus a control with the same schedule, paired by seed. *own steps*: each where its own loss selected. *same step*: the control read at the step that T-CE selected, so neither schedule, nor length of training, nor selection differs, and what is left is the choice of what to drop. The intervals are not corrected for their number. First `random-drop`; then `popularity-drop`, which looks at no loss at all: where T-CE is not above it at the same step, nothing needs to be detected for T-CE's gain.

# %%
for control in [name for name in ("random-drop", "popularity-drop") if name in methods]:
    contrast = tables.same_step_table(diagnostics.of_methods(runs, "T-CE", control), parameters.top_k, base=control)
    name = f"tce_against_{control.removesuffix('-drop')}"
    display(publish_study(name, contrast, dataset, note, tables.readable_same_step(contrast)))

# %% [markdown]
# ## Who gains? (Fig. 7 of the paper)
#
# Test users in quartiles of their training interactions. A backbone is left out if its runs are records, which lack the values of each user. The least active users have the fewest positives to learn from; the paper says that they gain too.

# %%
with_users = diagnostics.with_users(diagnostics.of_methods(runs, *PAPER))
if with_users:
    groups = diagnostics.activity(with_users, diagnostics.training_counts(with_users, parameters))
    active = tables.with_metric(groups[groups["k"] == k])
    display(publish_figure(
        figures.panels(active, x="group", line="method", column="backbone", row="measured", xlabel="training interactions", named=True),
        groups, dataset, "activity_groups", "Recall and NDCG by user activity for CE, T-CE and R-CE", note,
    ))
else:
    display(Markdown("Left out: records lack the values of each user."))

# %% [markdown]
# The changes against CE by group, with intervals that are not corrected for their number.

# %%
keys, changes = ["backbone", "method", "measured", "group"], ["n_users", "change", "change_low", "change_high"]
if with_users:
    shown = tables.rounded(active[active["change"].notna()][keys + changes], keys)
    display(publish_study("activity", groups, dataset, note, shown))

# %% [markdown]
# ## Which checkpoint?
#
# Test Recall of each method at the step that each rule would have selected, and the mean step. *own loss* is the main table's rule. *clean validation* uses flags, *best on test* chooses on the number it reports: a ceiling, no rule. Compare methods **within** a column: where a difference lives in one column only, the rule made it. *T-CE's step* reads every method at the step that T-CE selected.

# %%
selected = diagnostics.selection_study(runs, k)
rows = tables.with_metric(selected[selected["metric"] == "recall"])
cells = rows.assign(cell=tables.spread(rows["mean"], rows["high"]) + rows["mean_step"].map(" @ {:,.0f}".format))
shown = tables.wide(cells, ["backbone", "method"], "selector").fillna("–").rename_axis(columns=f"Recall@{k}")
publish_table(selected, dataset, "selectors", note, shown=shown)

# %% [markdown]
# What the rules do to the comparison of T-CE with CE, and to what removing the noise gains.

# %%
recall = tables.wide(selected[selected["metric"] == "recall"], ["backbone", "method"], "selector", "mean")
lines = ["**Here**, methods minus CE in Recall under each rule (means, untested):\n"]
for method in ("T-CE", "oracle-drop", "clean-only"):
    for backbone in selected.loc[selected["method"] == method, "backbone"].unique():
        gains = (recall.loc[(backbone, method)] - recall.loc[(backbone, "CE")]).dropna()
        told = ", ".join(f"{gain:+.4f} by {rule}" for rule, gain in gains.items())
        lines.append(f"- {method}, {backbone}: {told}")
Markdown("\n".join(lines))

# %% [markdown]
# The paper's three methods as a figure. No line joins the rules, since they have no order. R-CE's own loss deserves distrust: as a function of the probability p of a positive it peaks at $p = e^{-1/\beta}$ and falls below that (`figures/<dataset>/rce_weight`, right), so it can fall while a model grows confidently wrong.

# %%
ruled = tables.with_metric(selected[selected["method"].isin(PAPER)])
publish_figure(
    figures.panels(ruled, x="selector", line="method", column="backbone", row="measured", xlabel="", named=True, ordered=False),
    ruled, dataset, "selectors", "Recall and NDCG of CE, T-CE and R-CE under each rule of selection", note,
)

# %% [markdown]
# ## Sensitivity (Fig. 9 of the paper)
#
# NeuMF over the papers' grids, one parameter at a time, the others as in the main table; CE beside it on the same seeds. The ramps are those that a run can reach, and the main table's own. Values at equal distances, each panel with a vertical scale of its own: read it against CE in the same panel. Error bars are 95 % intervals over few seeds.

# %%
if of_grids:
    tried = map_runs([settings for _, settings in of_grids], parameters.jobs, use_records=parameters.use_records)
    sensitive = tables.with_metric(sensitivity.sensitivity([option for option, _ in of_grids], tried, k))
    display(publish_figure(
        figures.panels(sensitive, x="value", line="method", column="parameter", row="measured", xlabel="value", named=True, one_scale=False),
        sensitive, dataset, "sensitivity", "Recall and NDCG of NeuMF against the hyper-parameters of T-CE and R-CE", note,
    ))
else:
    display(left_out)

# %% [markdown]
# The changes against CE on the same seeds, with uncorrected intervals.

# %%
if of_grids:
    keys = ["method", "parameter", "value", "measured"]
    shown = tables.rounded(sensitive[sensitive["method"] != "CE"][keys + ["change", "change_low", "change_high"]], keys)
    display(publish_study("sensitivity", sensitive, dataset, note, shown))

# %% [markdown]
# ## Dose-response
#
# Here the truth is known: false positives are made up and added to the clean part of train and valid, 0 to 0.4 for each true one, either uniformly or in proportion to popularity; the test part stays. GMF; T-CE's ramp is the shortest of the grid, so its rates are what the labels say. *knows the dose* drops as many positives as are false, a number that no user has. The change is against CE at the same dose. Each run is selected by its own loss on the noisy validation part, so the lines differ in length of training too: `mean_step` in `dose_response.csv`.

# %%
if of_doses:
    dosed = map_runs([settings for _, settings in of_doses], parameters.jobs, use_records=parameters.use_records)
    response = tables.with_metric(sensitivity.dose_response([label for label, _ in of_doses], dosed, k))
    display(publish_figure(
        figures.panels(response, x="dose", line="line", column="noise", row="measured", xlabel="false positives per true one", named=True),
        response, dataset, "dose_response", "Recall and NDCG against the dose of made-up false positives", note,
    ))
else:
    display(left_out)

# %% [markdown]
# The changes against CE at the same dose. A method that denoises should gain more the higher the dose, and nothing at dose 0. In numbers, and as a figure.

# %%
if of_doses:
    gains = response[response["line"] != "CE"]
    cells = gains.assign(cell=tables.spread(gains["change"], gains["change_high"], "+")).sort_values(["noise", "measured"], kind="stable")
    display(publish_table(response, dataset, "dose_response", note, shown=tables.wide(cells, ["noise", "measured", "line"], "dose")))
    display(publish_figure(
        figures.panels(
            gains.assign(mean=gains["change"], low=gains["change_low"], high=gains["change_high"], measured="change of " + gains["measured"]),
            x="dose", line="line", column="noise", row="measured", xlabel="false positives per true one", named=True, zero=0,
        ),
        gains, dataset, "dose_gain", "Change against CE at the same dose of made-up false positives", note,
    ))
else:
    display(left_out)

# %% [markdown]
# What that says, counted.

# %%
lines = ["**Here**, changes against CE (Recall and NDCG, both kinds of noise; intervals uncorrected):\n"]
for line, of_line in gains.groupby("line", sort=False) if of_doses else ():
    found = []
    for each, cells in of_line.groupby("dose"):
        above, below = (cells["change_low"] > 0).sum(), (cells["change_high"] < 0).sum()
        found.append(f"{above} above, {below} below, {len(cells) - above - below} around 0 at dose {each:g}")
    lines.append(f"- {line}: " + "; ".join(found))
Markdown("\n".join(lines)) if of_doses else left_out

# %% [markdown]
# Every run is there.

# %% tags=["nbval-check-output"]
print(len(runs), "runs with diagnostics;", len(table), "cells")
print("seeds per cell:", sorted(table["n_seeds"].unique().tolist()))
