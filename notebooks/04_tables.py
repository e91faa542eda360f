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
# # 04 · Tables
#
# **Question.** On this data set, with these backbones and seeds: which of CE, T-CE and R-CE ranks held-out true positives best, and by how much more than chance?
#
# **Reads** the runs of 02 and 03 (what is missing is computed) · **Writes** `results/<dataset>/tables/main.*`, `results/<dataset>/runs.csv`, `figures/<dataset>/` · **Takes** seconds after 02 and 03 · **Source** arXiv:2006.04153.

# %%
try:
    from IPython.display import Markdown

    from denoise_lib import datasets, params, report, verdicts
    from denoise_lib.baselines import baselines, settings_table
    from denoise_lib.own_data import original_ids
    from denoise_lib.recommendations import recommend
    from denoise_lib.runs import load_split, map_runs, plan
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
backbones: list[str] = ["GMF", "NeuMF", "CDAE"]  # of GMF, MLP, NeuMF, NeuMF-pre, CDAE
seeds: list[int] | dict[str, list[int]] = [1, 2, 3]  # one run each; intervals are over them
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

# %% [markdown]
# All runs of the main comparison, and methods without training steps in the same protocol.

# %%
options = params.of_runs(globals())
note = params.note(globals())
runs = map_runs(plan(["CE", "T-CE", "R-CE"], **options), jobs, label="04: all methods", use_records=use_records)
untrained = baselines(load_split(runs[0].settings), top_k)

# %% [markdown]
# ## The main table
#
# All items are ranked for every user with a test interaction; items of the user's train and valid parts are left out of the ranking. A cell is the mean over seeds ± half its 95 % t-interval, then the change against CE, paired by seed, ± half its interval. ▲ better and ▼ worse mark changes whose t-test has p below 0.05 after Holm's correction over the table; all others are unresolved, even where an interval leaves out 0. Precision and MRR are in the CSV. The last rows are not trained by steps and have no seeds. *MostPop* ranks items by their training interactions, the same for every user; *MostPop (train + valid)* counts the validation part too, which no other method sees: no fair competitor, but it tells how much validation gives away of test. *ItemKNN* adds up the cosine similarities to the user's items, *EASE* is a linear item-to-item model in closed form.

# %%
table = verdicts.with_published(
    report.main_table(runs, note, baselines=untrained), dataset, params.unlike_published(globals())
)
table = report.with_user_intervals(table, runs)
report.publish_table(table, dataset, "main", note, shown=report.readable(table))

# %% [markdown]
# What the untrained methods were given, chosen on the noisy validation part, or why one was left out.

# %%
settings_table(untrained)

# %% [markdown]
# ## How sure are the changes?
#
# *over seeds*: the 95 % t-interval, what training again would do. *over users*: the 95 % bootstrap interval of the change averaged over seeds, 10,000 resamples of the test users, what other users would do (empty where runs come from records, which hold no users). *p (Holm)* is what the marks above go by. *detectable*: the least true change that these seeds would find four times in five, before any correction; an unresolved cell says nothing about smaller ones.

# %%
report.publish_table(table[table["change"].notna()], dataset, "statistics", note, shown=report.statistics_table(table))

# %% [markdown]
# ## Beside the published numbers
#
# A published number is one run. *reproduced*: our mean is within ±4 % of it. *within seed noise*: it is not, but the published number lies in the 95 % prediction interval for one further run of ours, mean ± t·s·√(1 + 1/n). *one more run* is half that interval relative to our mean: where it is wide, the verdict is cheap. *not reproduced (higher)* or *(lower)* says where ours lies.

# %%
if table["published"].notna().any():
    beside = report.publish_table(verdicts.beside_published(table), dataset, "published", note)
else:
    beside = Markdown("The paper has no numbers for this data set.")
beside

# %% [markdown]
# ## The changes at a glance
#
# Method minus CE with its 95 % interval. A line that crosses the vertical zero is unresolved, and so are some that do not: the intervals are not corrected for their number. Look at the width first: an effect smaller than that cannot be seen with these seeds.

# %%
report.publish_figure(
    report.change_figure(table), table.dropna(subset="change"), dataset, "change_against_ce",
    "Change of Recall and NDCG against CE with 95 % intervals, by backbone and method", note,
)

# %% [markdown]
# The same, counted.

# %%
report.summary(table)

# %% [markdown]
# ## Test metrics along training (analysis only)
#
# Test Recall and NDCG at the larger K at every evaluation point, with a dot where the own validation loss selected. **No number of any table was chosen on this curve.** Where a dot lies well below its curve's maximum, the selection rule costs more than the methods differ by.

# %%
points = report.histories(runs)
k = max(top_k)
if test_curve:
    shown = {f"recall_{k}_test": f"test Recall@{k}", f"ndcg_{k}_test": f"test NDCG@{k}"}
else:
    shown = {"valid_loss": "own validation loss"}
report.publish_figure(
    report.curves(points, shown), points, dataset, "test_curves",
    "Test metrics of all methods against optimizer steps, with the selected step", note,
)

# %% [markdown]
# ## Better loss, or longer training?
#
# The methods are selected by different losses and so at different steps. *own steps* repeats the main table's change. *same step* compares with CE at the step that the method selected, read from CE's curve: what remains is not explained by training longer. Marks as above, corrected over each column. Where a change is clear in the first column and gone in the second, the selection rule made it, not the loss. CE may have overfitted by a late step, which favours the method there: the curves above show it.

# %%
if test_curve:
    same_step = report.same_step_table(runs, top_k)
    at_k = report.readable_same_step(same_step[same_step["k"] == k])
    answer = report.publish_table(same_step, dataset, "same_step", note, shown=at_k)
else:
    answer = Markdown("Set `test_curve` to true to see this.")
answer

# %% [markdown]
# ## Over the published curves
#
# Our loss curves (black, a thin line per seed) over those of the authors' logs (dashed), with selected steps as dots and diamonds. Their validation loss is a sum of batch means, as ours is under `protocol: authors`. Curves that agree from the first point on say that data, sampling, loss and optimizer agree; where they part late, training does.

# %%
both = report.with_published_points(points, verdicts.published_curves(dataset))
if (both["of"] == "published").any():
    over = report.publish_figure(
        report.published_figure(both, "valid_loss", "own validation loss"), both, dataset,
        "published_valid_loss", "Our validation loss over the published one, by backbone and method", note,
    )
else:
    over = Markdown("The authors published no logs for this data set.")
over

# %% [markdown]
# The same for the training loss; ours is the mean since the last point, theirs as it was logged.

# %%
if (both["of"] == "published").any():
    over = report.publish_figure(
        report.published_figure(both, "train_loss", "training loss"), both, dataset,
        "published_train_loss", "Our training loss over the published one, by backbone and method", note,
    )
over

# %% [markdown]
# ## Users with and without training rows
#
# A *warm* user has at least one training interaction; a *cold* one keeps the embedding that was drawn at random, so a model can rank by little more than popularity there. First the warm ones; where all test users are warm, this repeats the main table.

# %%
warm = report.main_table(runs, note, users="warm", baselines=untrained)
report.publish_table(warm, dataset, "main_warm_users", note, shown=report.readable(warm))

# %% [markdown]
# The cold ones.

# %%
if (untrained["users"] == "cold").any():
    cold = report.main_table(runs, note, users="cold", baselines=untrained)
    others = report.publish_table(cold, dataset, "main_cold_users", note, shown=report.readable(cold))
else:
    others = Markdown("Every test user has training rows.")
others

# %% [markdown]
# ## Validation beside test
#
# Recall and NDCG on the noisy validation part, training items left out: its truth holds false positives, so its level is not comparable with test. It shows what a reader without flags would see.

# %%
valid = report.main_table(runs, note, part="valid")
report.publish_table(valid, dataset, "main_validation", note, shown=report.readable(valid))

# %% [markdown]
# ## Recommendations
#
# What a saved run recommends: the five best items among those that a user has no interaction with in train, valid or test (a disliked one that left the test part may come up), for the first three users, with the ids of the table that the data were made from (`users.csv`, `items.csv`), or else the numbers of the files. The probability orders items of one user; it says nothing about how likely a click is.

# %%
saved = next((run for run in runs if not run.is_record), None)
recommended = recommend(saved, original_ids(dataset, "users")[:3], 5) if saved else "Left out: records hold no weights."
recommended

# %% [markdown]
# ## Reproducibility card
#
# The data, by SHA-256 of each file.

# %%
report.checksum_table(datasets.checksums(dataset))

# %% [markdown]
# What the runs were computed with. Two values in a line mean that the runs were not all made in one environment.

# %%
report.environment_table(runs)

# %% [markdown]
# One row per run: settings, selected step, all means, wall time. The full table is `results/<dataset>/runs.csv`.

# %%
every_run = report.runs_table(runs)
report.publish_runs(every_run, dataset)
every_run[["backbone", "method", "seed", "selected_step", f"test_recall_{k}", f"test_ndcg_{k}", "seconds"]]

# %% [markdown]
# Every run is in the table, and the seeds are paired.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("seeds per cell:", sorted(table["n_seeds"].unique().tolist()))
