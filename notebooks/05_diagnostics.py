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
# # 05 · Diagnostics: is it the denoising, or just training differently?
#
# **Question.** T-CE drops positives, follows a schedule and is selected by a loss of its own. Which of these makes the difference, if there is one? The paper's other figures, controls that drop as many positives for another reason, other rules of selection, and noise whose truth is known.
#
# **Reads** the runs of 02 and 03 and computes the controls · **Writes** `figures/<dataset>/`, `results/<dataset>/tables/` · **Takes** a minute for `toy`, about an hour for `ml100k` on 2 cores; `run_all.sh --full` runs it · **Source** arXiv:2006.04153; which of its figures these are is from memory, as its numbers are; the controls are ours.

# %%
try:
    from IPython.display import Markdown, display

    from denoise_lib import params, report, studies, verdicts
    from denoise_lib.runs import METHODS, load_split, map_runs, plan
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"{missing.name} is not installed in this kernel. Clone the project, run `pip install -e <its folder>` "
        "in this kernel's environment (see README.md), then restart the kernel."
    ) from None

# %% [markdown]
# The parameters. Opened by hand, this notebook runs on the toy data set.

# %% tags=["parameters"]
# Defaults are the toy data set's; run_all.sh puts the values of params/<dataset>.yaml in their place.
dataset: str = "toy"  # names params/<dataset>.yaml and data/<dataset>/
protocol: str = "corrected"  # corrected or authors: see DEVIATIONS.md
dim: int = 16  # width of the embeddings and of the tower's last layer
n_layers: int = 2  # layers of the tower, MLP and NeuMF
hidden_dim: int = 50  # width of CDAE's hidden layer
corruption: float = 0.5  # share of CDAE's input that is dropped in training
batch_size: int = 256  # rows, positives and negatives together
lr: float = 0.003  # Adam's learning rate
n_negatives: int = 1  # sampled per positive, anew each epoch
epochs: int | dict[str, int] = 12  # passes over the training data
eval_every: int = 25  # steps between evaluation points
top_k: list[int] = [5, 20]  # cut-offs of the metrics
test_curve: bool = True  # record test metrics at every evaluation point, for analysis only
max_drop_rate: float | dict[str, float] = 0.1  # T-CE: share of the batch dropped after the ramp
ramp_steps: int | dict[str, int] = 300  # T-CE: optimizer steps to the maximum
beta: float | dict[str, float] = 0.25  # R-CE: exponent of the weight
threads: int = 1  # torch threads of each run
device: str = "auto"  # auto (CUDA where there is one), cpu or cuda
jobs: int | str = "auto"  # runs side by side; auto: as many as cores and memory allow
use_records: bool = False  # a run that is not on disk is read from results/<dataset>/records where its record is there
controls: list[str] = ["random-drop", "popularity-drop", "oracle-drop", "lowest-loss-drop", "clean-only"]  # of controls.py
study_seeds: dict[str, list[int]] = {"GMF": [1, 2]}  # backbone -> seeds of this notebook
grid_seeds: list[int] = [1, 2]  # of the sensitivity (NeuMF) and dose-response (GMF) studies
grids: dict[str, list[float]] = {"max_drop_rate": [0.05, 0.2], "ramp_steps": [100, 300], "beta": [0.1, 0.5]}  # {}: no such study
doses: list[float] = [0.0, 0.4]  # made-up false positives per true one; []: no such study

# %% [markdown]
# The runs: the paper's methods and the controls, each recording at every evaluation point what this notebook looks at. What needs flags (`oracle-drop`, `clean-only`, most figures) is left out where the training part has none. `note` is empty unless a parameter differs from the data set's file.

# %% tags=["nbval-check-output"]
options = params.of_runs(globals()) | {"backbones": list(study_seeds), "seeds": study_seeds}
note = params.note(globals())
methods = studies.methods_for(dataset, [*METHODS, *controls])
has_flags = studies.has_flags(dataset)
settings = plan(methods, **options, diagnostics=True)
of_grids = studies.sensitivity_plan(grids, grid_seeds, options)
of_grids_ce = plan(["CE"], **options | {"backbones": [studies.GRID_BACKBONE], "seeds": grid_seeds}) if grids else []
of_doses = studies.dose_plan(doses, grids, grid_seeds, options) if doses and has_flags else []
left_out = Markdown("Left out: the training part has no flags, or the parameters of this data set do not ask for it.")
report.settings_table(settings)

# %% [markdown]
# Runs that are on disk are read, the others are computed now, those of the last two sections too: the bar is for all of this notebook.

# %%
every = settings + of_grids_ce + [settings for _, settings in of_grids + of_doses]
runs = map_runs(every, jobs, label="05: all runs", use_records=use_records)[: len(settings)]
split = load_split(settings[0])
k = max(top_k)

# %% [markdown]
# ## Does clean training help at all? (Table 1 of the paper)
#
# `normal` is CE on everything, `clean` CE without the flagged false positives of train and valid; the test part is the same, and items of all observed interactions stay out of the ranking. If the clean training were no better, there would be nothing for a denoising method to gain. The paper's own numbers, **from memory**: NeuMF on Adressa Recall@20 .4040 clean against .3081 normal, NDCG@20 .1963 against .1732; on Amazon-book .0293 against .0265 and .0159 against .0145.

# %%
if "clean-only" in methods:
    clean = studies.clean_training(runs)
    shown = report.rounded(report.with_metric(clean).drop(columns=["metric", "k"]), ["backbone", "measured"])
    first = verdicts.publish_study("clean_training", clean, dataset, note, shown)
else:
    first = left_out
first

# %% [markdown]
# ## When are false positives learned? (Fig. 3 of the paper)
#
# Mean cross-entropy of the training part's true and false positives under CE: over the whole training, and over its first steps. Bands are 95 % intervals over seeds. The paper's point is that the false ones are harder *early*: the gap between the lines is what T-CE can work with. A loss below 0.69 means that the model ranks the pair as liked.

# %%
if has_flags:
    losses = studies.loss_points(runs)
    early = studies.whole_and_first(losses[losses["method"] == "CE"])
    picture = report.publish_figure(
        report.panels(early, x="step", line="positives", column="backbone", row="span", xlabel="optimizer step"),
        early, dataset, "memorisation_ce", "Loss of true and false positives under CE against steps", note,
    )
else:
    picture = left_out
picture

# %% [markdown]
# The same in numbers, at the selected and at the last step: mean losses, and the gap with its interval.

# %%
if has_flags:
    memorised = studies.memorisation(runs)
    shown = report.rounded(memorised, ["backbone", "point"])
    first = verdicts.publish_study("memorisation", memorised, dataset, note, shown)
else:
    first = left_out
first

# %% [markdown]
# ## The same under each method (Fig. 6 of the paper)
#
# A method that keeps the model from memorising false positives holds their line up while the line of the true ones falls. If both lines rise together, it holds back *all* hard positives.

# %%
if has_flags:
    main = losses[losses["method"].isin(METHODS)].assign(row="loss: " + losses["method"])
    picture = report.publish_figure(
        report.panels(main, x="step", line="positives", column="backbone", row="row", xlabel="optimizer step"),
        main, dataset, "memorisation_methods", "Loss of true and false positives against steps under CE, T-CE and R-CE", note,
    )
picture

# %% [markdown]
# ## What does T-CE drop? (Fig. 8 of the paper)
#
# Upper row, precision: the share of false positives among the dropped positives; lower row, recall: the share of the false positives that is dropped. The dotted line is what dropping as many at random gives: the share of false positives in the batch, and the share of positives dropped. Only what lies above it is detection.

# %%
if has_flags:
    dropped = studies.drop_points(runs)
    picture = report.publish_figure(
        report.panels(dropped, x="step", line="dropping", column="backbone", row="measure", xlabel="optimizer step"),
        dropped, dataset, "drop_precision_recall", "Precision and recall of false positives among what T-CE drops", note,
    )
picture

# %% [markdown]
# All dropping methods at the end of training; `at_random` is the expected precision of random dropping. `oracle-drop` stays at 1 while flagged positives remain in the batch. Compare T-CE with `popularity-drop`: where that is as precise, T-CE may find false positives because they are rare items.

# %%
if has_flags:
    at_end = studies.drops(runs)
    shown = report.rounded(at_end, ["backbone", "method"])
    first = verdicts.publish_study("drops", at_end, dataset, note, shown)
else:
    first = left_out
first

# %% [markdown]
# ## Controls
#
# Every method and control against CE, each at the step that its own validation loss selected. `random-drop` has T-CE's schedule but no detection; `popularity-drop` drops the rarest items, `lowest-loss-drop` the easiest positives; `oracle-drop` and `clean-only` use the flags and are bounds, not methods. A method is only as good as its distance from `random-drop`. Holm's correction over so many cells with so few seeds leaves most of them unresolved: read the intervals here, and the two comparisons below.

# %%
table = report.main_table(runs, note)
report.publish_table(table, dataset, "controls", note, shown=report.readable(table))

# %% [markdown]
# The same as a figure, with 95 % intervals.

# %%
report.publish_figure(
    report.change_figure(table), table.dropna(subset="change"), dataset, "controls",
    "Change of Recall and NDCG against CE of all methods and controls", note,
)

# %% [markdown]
# The same, counted, after Holm's correction.

# %%
report.summary(table)

# %% [markdown]
# ## The main question: T-CE against dropping at random, and against dropping the rarest items
#
# T-CE minus a control with the same schedule, paired by seed. *own steps*: each where its own loss selected. *same step*: the control read at the step that T-CE selected, so neither schedule, nor length of training, nor selection differs, and what is left is the choice of what to drop. ▲ and ▼ are corrected by Holm over the column. First `random-drop`; then `popularity-drop`, which looks at no loss at all: where T-CE is not above it at the same step, nothing needs to be detected for T-CE's gain.

# %%
for control in [name for name in ("random-drop", "popularity-drop") if name in methods]:
    contrast = studies.tce_against(control, runs, top_k)
    name = f"tce_against_{control.removesuffix('-drop')}"
    display(verdicts.publish_study(name, contrast, dataset, note, report.readable_same_step(contrast)))

# %% [markdown]
# ## Who gains? (Fig. 7 of the paper)
#
# Test users in quartiles of their training interactions. A backbone is left out if its runs are records, which lack the values of each user. The least active users have the fewest positives to learn from; the paper says that they gain too.

# %%
with_users = studies.with_users(studies.of_methods(runs, *METHODS))
picture = Markdown("Left out: records lack the values of each user.")
if with_users:
    groups = studies.activity(with_users, split)
    active = report.with_metric(groups[groups["k"] == k])
    picture = report.publish_figure(
        report.panels(active, x="group", line="method", column="backbone", row="measured", xlabel="training interactions", named=True),
        groups, dataset, "activity_groups", "Recall and NDCG by user activity for CE, T-CE and R-CE", note,
    )
picture

# %% [markdown]
# The changes against CE by group, corrected by Holm over each metric and K.

# %%
keys, changes = ["backbone", "method", "measured", "group"], ["n_users", "change", "change_low", "change_high", "against_ce"]
if with_users:
    shown = report.rounded(active[active["change"].notna()][keys + changes], keys)
    picture = verdicts.publish_study("activity", groups, dataset, note, shown)
picture

# %% [markdown]
# ## Which checkpoint?
#
# Test Recall of each method at the step that each rule would have selected, and the mean step. *own loss* is the main table's rule. *clean validation* uses flags, *best on test* chooses on the number it reports: a ceiling, no rule. Compare methods **within** a column: where a difference lives in one column only, the rule made it. *T-CE's step* reads every method at the step that T-CE selected.

# %%
selected = studies.selection_study(runs, k)
report.publish_table(selected, dataset, "selectors", note, shown=studies.readable_selection(selected))

# %% [markdown]
# What the rules do to the comparison of T-CE with CE, and to what removing the noise gains.

# %%
Markdown(studies.selection_says(selected))

# %% [markdown]
# The paper's three methods as a figure. No line joins the rules, since they have no order. R-CE's own loss deserves distrust: as a function of the probability p of a positive it peaks at $p = e^{-1/\beta}$ and falls below that (`figures/<dataset>/rce_weight`, right), so it can fall while a model grows confidently wrong.

# %%
ruled = report.with_metric(selected[selected["method"].isin(METHODS)])
report.publish_figure(
    report.panels(ruled, x="selector", line="method", column="backbone", row="measured", xlabel="", named=True, ordered=False),
    ruled, dataset, "selectors", "Recall and NDCG of CE, T-CE and R-CE under each rule of selection", note,
)

# %% [markdown]
# ## Sensitivity (Fig. 9 of the paper)
#
# NeuMF over the papers' grids, one parameter at a time, the others as in the main table; CE beside it on the same seeds. Ramps are limited to what a run reaches. Values at equal distances, error bars are 95 % intervals over few seeds.

# %%
if grids:
    tried = map_runs([settings for _, settings in of_grids], jobs, use_records=use_records)
    normal = map_runs(of_grids_ce, jobs, use_records=use_records)
    sensitive = report.with_metric(studies.sensitivity([name for name, _ in of_grids], tried, normal, k))
    picture = report.publish_figure(
        report.panels(sensitive, x="value", line="method", column="parameter", row="measured", xlabel="value", named=True),
        sensitive, dataset, "sensitivity", "Recall and NDCG of NeuMF against the hyper-parameters of T-CE and R-CE", note,
    )
else:
    picture = left_out
picture

# %% [markdown]
# The changes against CE on the same seeds, with uncorrected intervals.

# %%
if grids:
    keys = ["method", "parameter", "value", "measured"]
    shown = report.rounded(sensitive[sensitive["method"] != "CE"][keys + ["change", "change_low", "change_high"]], keys)
    picture = verdicts.publish_study("sensitivity", sensitive, dataset, note, shown)
picture

# %% [markdown]
# ## Dose-response
#
# Here the truth is known: false positives are made up and added to the clean part of train and valid, 0 to 0.4 for each true one, either uniformly or in proportion to popularity; the test part stays. GMF; T-CE's ramp is the shortest of the grid, so its rates are what the labels say. *knows the dose* drops as many positives as are false, a number that no user has. The change is against CE at the same dose. Each run is selected by its own loss on the noisy validation part, so the lines differ in length of training too: `mean_step` in `dose_response.csv`.

# %%
if doses and has_flags:
    dosed = map_runs([settings for _, settings in of_doses], jobs, use_records=use_records)
    response = report.with_metric(studies.dose_response([label for label, _ in of_doses], dosed, k))
    picture = report.publish_figure(
        report.panels(response, x="dose", line="line", column="noise", row="measured", xlabel="false positives per true one", named=True),
        response, dataset, "dose_response", "Recall and NDCG against the dose of made-up false positives", note,
    )
else:
    picture = left_out
picture

# %% [markdown]
# The changes against CE at the same dose. A method that denoises should gain more the higher the dose, and nothing at dose 0.

# %%
if doses and has_flags:
    gains = response[response["line"] != "CE"]
    first = report.publish_table(response, dataset, "dose_response", note, shown=report.dose_table(gains))
    picture = report.publish_figure(
        report.panels(
            gains.assign(mean=gains["change"], low=gains["change_low"], high=gains["change_high"], measured="change of " + gains["measured"]),
            x="dose", line="line", column="noise", row="measured", xlabel="false positives per true one", named=True, zero=0,
        ),
        gains, dataset, "dose_gain", "Change against CE at the same dose of made-up false positives", note,
    )
else:
    first = left_out
first

# %% [markdown]
# The same as a figure.

# %%
picture

# %% [markdown]
# What that says, counted.

# %%
Markdown(studies.dose_says(response)) if doses and has_flags else left_out

# %% [markdown]
# Every run is there.

# %% tags=["nbval-check-output"]
print(len(runs), "runs with diagnostics;", len(table), "cells")
print("seeds per cell:", sorted(table["n_seeds"].unique().tolist()))
