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
# # 01 · The data
#
# **Question.** What does this data set hold, how much of it is noise, and is anything wrong with it that would spoil a metric?
#
# **Reads** a public source, once · **Writes** `data/<dataset>/` in the authors' format, `figures/<dataset>/`, `results/<dataset>/tables/` · **Takes** seconds · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

# %%
try:
    from dataclasses import replace

    import numpy as np
    from IPython.display import Markdown

    from denoise_lib import datasets, doctor, own_data, params, paths, report
    from denoise_lib.data import Interactions
    from denoise_lib.sampling import sample_negatives
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
expected: dict[str, int] = {"users": 300, "items": 150, "interactions": 8521}  # counts that must be found, published where there are any
declared_differences: dict[str, int] = {}  # counts that differ from these, knowingly: name and count found
ratings: str | None = None  # a CSV or TSV file of one's own to make the data set from
columns: dict[str, str] = {}  # of that file, role -> name: user, item, rating, dwell, flag, time
clean_from: float | None = None  # of that file, the lowest rating or dwell time of a true positive

# %% [markdown]
# ## Where the data come from
#
# The data are prepared once and then read from disk. What a *false positive* is depends on the data set:
#
# - **`ml100k`** is MovieLens-100K. Every rating is an observed interaction, and a rating below 3 is a false positive: somebody watched the film and did not like it. That is the paper's rule for its rating data sets, *known to us second-hand only*, from a later paper that follows its settings. Each user's ratings are split 80/10/10 at random; false positives stay in train and valid and leave test.
# - **`toy`** is generated, so its truth is known. There are 300 users, 150 items and five genres. Every user likes two genres; true interactions are 12 to 32 items of these. To them come 4 to 10 false positives from the other genres, drawn by popularity alone: what everybody clicks. So about a quarter of the interactions are noise, and the noise is popular. It is split like `ml100k`.
#
# - **a table of one's own** (`ratings`) becomes a data set in the same way: each user's rows are split 80/10/10 at random, and a rating or dwell time below `clean_from`, or a flag of 0, is a false positive.

# %%
table = own_data.prepare(dataset, ratings, columns, clean_from) if ratings else None
split = datasets.load(dataset)
note = params.note(globals())
Markdown("\n".join(f"- **{key}**: {value}" for key, value in datasets.card(dataset).items()))

# %% [markdown]
# The counts beside the expected ones (published where there are any; for `toy`, those of the generator). A difference that the parameters do not declare stops the notebook.

# %% tags=["nbval-check-output"]
found = {
    "users": split.n_users,
    "items": split.n_items,
    "interactions": len(split.train) + len(split.valid) + len(split.test),
    "train": len(split.train),
    "valid": len(split.valid),
    "test": len(split.test),
    "test_users": len(np.unique(split.test.users)),
}
counts = report.expected_table(found, expected, declared_differences)
counts

# %% [markdown]
# No line may say DIFFERS, but for a table of one's own, whose counts are those when its parameters were written: another `clean_from` or another file changes them.

# %%
undeclared = counts.index[counts["verdict"] == "DIFFERS"].tolist()
if undeclared and not ratings:
    raise ValueError(f"{undeclared} differ from the published counts and are not in declared_differences")

# %% [markdown]
# ## The parts
#
# One row per part. The test part holds true positives only, so its noise is 0 by construction; train and valid keep theirs, as in the paper.

# %% tags=["nbval-check-output"]
parts = report.counts_table(split)
parts

# %% [markdown]
# The same table as a file.

# %%
report.publish_table(parts, dataset, "parts", note)

# %% [markdown]
# ## Checks
#
# Every finding of the data doctor (`python -m denoise_lib doctor data/<dataset>` shows the same): how many, what it does to the numbers, what to do about it, and whether it makes results invalid. An empty table means that nothing was found: no repeated pairs, no overlap of the parts, no user without training rows, no id that occurs nowhere, no user without test rows, flags that look right, a ramp that a run completes.

# %%
report.publish_table(doctor.examine(split, params.read(dataset), table), dataset, "checks", note)

# %% [markdown]
# What T-CE will really drop with the parameters of `params/<dataset>.yaml`, as shares of the batch. A run that is shorter than the ramp never reaches the maximum; and since only positives are dropped, their share is about twice the rate.

# %%
report.publish_table(doctor.effective_drop_rates(params.read(dataset), len(split.train)), dataset, "drop_rates", note)

# %% [markdown]
# How a leaky split gives itself away, on `toy` only: here the validation part was copied into the test part too. The ranking leaves validation items out, so these test rows can never be hit and mean Recall has a ceiling. A MovieLens-100K split that later studies use was made in this way; its ceiling is .517, computed from the files of github.com/bachml/EvalDenoisingRec.

# %%
leaky = [np.concatenate([getattr(part, of) for part in (split.test, split.valid)]) for of in ("users", "items")]
findings = doctor.examine(replace(split, test=Interactions(*leaky)))
Markdown(findings.query("invalid").to_markdown(index=False)) if dataset == "toy" else None

# %% [markdown]
# What the test part lets any model reach. *masked*: the pair is in train or valid, so the ranking leaves it out. *item not in train*: no training row has the item, so a model has only ever seen it as a negative. The ceilings are the mean Recall if everything else were ranked first.

# %%
report.publish_table(report.reach_table(split), dataset, "reach", note)

# %% [markdown]
# Sampled negatives must never be observed interactions. Here is one draw for every training row, checked against all of them.

# %% tags=["nbval-check-output"]
observed = split.matrix(split.train)
negatives = sample_negatives(split.train.users, observed, 1, np.random.default_rng(0))[:, 0]
int(np.asarray(observed[split.train.users, negatives]).sum())

# %% [markdown]
# ## Popularity
#
# Interactions of each item, most popular first, on logarithmic axes: a straight line is a power law. Read off how much of the data the first ten items hold.

# %%
frequency = report.frequency_points(split)
report.publish_figure(
    report.frequency_figure(frequency, "item"), frequency.query("of == 'item'"), dataset, "item_popularity",
    "Training interactions against the popularity rank of the item", note,
)

# %% [markdown]
# ## Activity
#
# The same for users. The right end is the least active user: few interactions to learn from.

# %%
report.publish_figure(
    report.frequency_figure(frequency, "user"), frequency.query("of == 'user'"), dataset, "user_activity",
    "Training interactions against the activity rank of the user", note,
)

# %% [markdown]
# ## Is the noise popular?
#
# Training interactions ordered by the popularity of their item and cut into tenths, with the share of false positives in each. A slope means that a method may lower the noise by treating items by their popularity, without recognising a single false positive.

# %%
if split.train.is_clean is None:
    shown = Markdown("The training part has no flags, so this cannot be drawn.")
else:
    noise = report.noise_by_popularity(split)
    shown = report.publish_figure(
        report.noise_figure(noise), noise, dataset, "noise_by_popularity",
        "Share of false positives in each tenth of the training interactions, by item popularity", note,
    )
shown

# %% [markdown]
# ## Raw rows
#
# The first training rows as the files hold them: user, item, and 1 for a true or 0 for a false positive. Shown for `toy` only, since the licence of MovieLens forbids redistribution.

# %% tags=["nbval-check-output"]
train_file = paths.data(dataset) / f"{dataset}.train.rating"
print("\n".join(train_file.read_text().splitlines()[:5]) if dataset == "toy" else "not shown")
