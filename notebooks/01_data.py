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
# # 01 · The data
#
# **Question.** What does this data set hold, how much of it is noise, and is anything wrong with it that would spoil a metric?
#
# **Reads** a public source, once · **Writes** `data/<dataset>/` in the authors' format, `figures/<dataset>/`, `results/<dataset>/tables/` · **Takes** seconds · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
from dataclasses import replace

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from denoise_lib.data import Interactions
from denoise_lib.sampling import sample_negatives
from replication.report import doctor, figures
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.runs.parameters import DataParameters, resolve
from replication.runs import store
from replication.sources import own_table, public
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
show_parameters(parameters, DataParameters)

# %% [markdown]
# ## Where the data come from
#
# The data are prepared once and then read from disk. What a *false positive* is depends on the data set:
#
# - **`ml100k`** is MovieLens-100K. Every rating is an observed interaction, and a rating below 3 is a false positive: somebody watched the film and did not like it. That is the paper's rule for its rating data sets, *known to us second-hand only*, from a later paper that follows its settings. Each user's ratings are split 80/10/10 at random; false positives stay in train and valid and leave test.
# - **`toy`** is generated, so its truth is known. There are 300 users, 150 items and five genres. Every user likes two genres; true interactions are 12 to 32 items of these. To them come 4 to 10 false positives from the other genres, drawn by popularity alone: what everybody clicks. So about a quarter of the interactions are noise, and the noise is popular. It is split like `ml100k`.
#
# - **a table of your own** (`ratings`) becomes a data set in the same way: each user's rows are split 80/10/10, at random or by time, or come in three tables; and a rating or dwell time below `clean_from`, or a flag of 0, is a false positive.

# %%
table, own = None, parameters.table()
if parameters.ratings:
    table = own_table.prepare(dataset, **own) or own_table.table_of(dataset, **own)
split = public.load(dataset)
note = store.note(parameters)
Markdown("\n".join(f"- **{key}**: {value}" for key, value in public.card(dataset).items() if key != "parts"))

# %% [markdown]
# What these files hold, counted.

# %%
found = {
    "users": split.n_users,
    "items": split.n_items,
    "interactions": len(split.train) + len(split.valid) + len(split.test),
    "train": len(split.train),
    "valid": len(split.valid),
    "test": len(split.test),
    "test_users": len(np.unique(split.test.users)),
}

# %% [markdown]
# The counts beside the expected ones (published where there are any; for `toy`, those of the generator). A difference that the parameters do not declare stops the notebook.

# %% tags=["nbval-check-output"]
rows = []
for name, count in found.items():
    accepted = {parameters.expected.get(name, count): "equal", parameters.declared_differences.get(name): "declared"}
    verdict = accepted.get(count, "DIFFERS") if name in parameters.expected else ""
    rows.append(dict(count=name, found=count, expected=parameters.expected.get(name, "not known"), verdict=verdict))
counts = pd.DataFrame(rows).set_index("count")
counts

# %% [markdown]
# No line may say DIFFERS, but for a table of your own, whose counts are those when its parameters were written: another `clean_from` or another file changes them.

# %%
undeclared = counts.index[counts["verdict"] == "DIFFERS"].tolist()
if undeclared and not parameters.ratings:
    raise ValueError(f"{undeclared} differ from the published counts and are not in declared_differences")

# %% [markdown]
# ## The parts
#
# One row per part. The test part holds true positives only, so its noise is 0 by construction; train and valid keep theirs, as in the paper.

# %% tags=["nbval-check-output"]
rows = []
for name, part in (("train", split.train), ("valid", split.valid), ("test", split.test)):
    noise = "no flags" if part.is_clean is None else f"{1 - part.is_clean.mean():.2%}"
    n_users, n_items = len(np.unique(part.users)), len(np.unique(part.items))
    rows.append(dict(part=name, interactions=len(part), users=n_users, items=n_items, false_positives=noise))
parts = pd.DataFrame(rows).set_index("part")
parts

# %% [markdown]
# The same table as a file.

# %%
publish_table(parts, dataset, "parts", note)

# %% [markdown]
# ## Checks
#
# Every finding of the data doctor (`python -m replication doctor data/<dataset>` shows the same): how many, what it does to the numbers, what to do about it, and whether it makes results invalid. An empty table means that nothing was found: no repeated pairs, no overlap of the parts, no user without training rows, no id that occurs nowhere, no user without test rows, flags that look right, a ramp that a run completes.

# %%
publish_table(doctor.examine(split, parameters, table), dataset, "checks", note)

# %% [markdown]
# What T-CE will really drop with the parameters of `params/<dataset>.yaml`, as shares of the batch. A run that is shorter than the ramp never reaches the maximum; and since only positives are dropped, their share is about twice the rate.

# %%
publish_table(doctor.effective_drop_rates(parameters, len(split.train)), dataset, "drop_rates", note)

# %% [markdown]
# How a leaky split gives itself away, on `toy` only: here the validation part was copied into the test part too. The ranking leaves validation items out, so these test rows can never be hit and mean Recall has a ceiling. A MovieLens-100K split that later studies use was made in this way; its ceiling is .517, computed from the files of github.com/bachml/EvalDenoisingRec.

# %%
leaky = [np.concatenate([getattr(part, of) for part in (split.test, split.valid)]) for of in ("users", "items")]
findings = doctor.examine(replace(split, test=Interactions(*leaky)))
Markdown(findings.query("invalid").to_markdown(index=False)) if dataset == "toy" else None

# %% [markdown]
# What the test part lets any model reach. *masked*: the pair is in train or valid, so the ranking leaves it out. *item not in train*: no training row has the item, so a model has only ever seen it as a negative. The ceilings are the mean Recall if everything else were ranked first.

# %%
publish_table(doctor.reach_table(split), dataset, "reach", note)

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
def by_rank(of, ids, size):
    """Interactions of each id, most first. Of a run of equal counts only the two ends are kept: the same line."""
    counts = np.sort(np.bincount(ids, minlength=size))[::-1]
    is_end = np.diff(counts, prepend=-1, append=-1) != 0
    ends = np.flatnonzero(is_end[:-1] | is_end[1:])
    return pd.DataFrame(dict(of=of, rank=ends + 1, interactions=counts[ends]))


def ranks_figure(points):
    """Interactions against rank on logarithmic axes."""
    drawn, figure = points.query("interactions > 0"), Figure(figsize=(4.3, 3), layout="constrained")
    axis = figure.subplots()
    axis.loglog(drawn["rank"], drawn["interactions"], color=figures.STYLES["T-CE"].color)
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set(xlabel=f"rank of the {points['of'][0]}", ylabel="training interactions")
    axis.grid(alpha=0.25, which="both")
    return figure


of_items = by_rank("item", split.train.items, split.n_items)
about = "Training interactions against the popularity rank of the item"
publish_figure(ranks_figure(of_items), of_items, dataset, "item_popularity", about, note)

# %% [markdown]
# ## Activity
#
# The same for users. The right end is the least active user: few interactions to learn from.

# %%
of_users = by_rank("user", split.train.users, split.n_users)
about = "Training interactions against the activity rank of the user"
publish_figure(ranks_figure(of_users), of_users, dataset, "user_activity", about, note)

# %% [markdown]
# ## Is the noise popular?
#
# Training interactions ordered by the popularity of their item and cut into tenths, with the share of false positives in each. A slope means that a method may lower the noise by treating items by their popularity, without recognising a single false positive.

# %%
if split.train.is_clean is None:
    display(Markdown("The training part has no flags, so this cannot be drawn."))
else:
    popularity = np.bincount(split.train.items, minlength=split.n_items)[split.train.items]
    tenth = np.argsort(np.argsort(popularity, kind="stable")) * 10 // len(popularity) + 1
    rows = pd.DataFrame(dict(tenth=tenth, popularity=popularity, false_positive=~split.train.is_clean))
    named = dict(least_popular=("popularity", "min"), most_popular=("popularity", "max"), false_positives=("false_positive", "mean"))
    noise = rows.groupby("tenth").agg(**named)
    percent, figure = 100 * noise["false_positives"], Figure(figsize=(4.3, 3), layout="constrained")
    axis = figure.subplots()
    axis.bar(noise.index, percent, color=figures.STYLES["T-CE"].color)
    axis.axhline(percent.mean(), color="black", linestyle="--", linewidth=1)
    axis.set_xticks(noise.index)
    axis.set_xlabel("tenth of the training interactions, by item popularity\n(1: least popular items; dashed: all)")
    axis.set_ylabel("false positives (%)")
    about = "Share of false positives in each tenth of the training interactions, by item popularity"
    display(publish_figure(figure, noise, dataset, "noise_by_popularity", about, note))

# %% [markdown]
# ## Raw rows
#
# The first training rows as the files hold them: user, item, and 1 for a true or 0 for a false positive. Shown for `toy` only, since the licence of MovieLens forbids redistribution.

# %% tags=["nbval-check-output"]
train_file = paths.data(dataset) / f"{dataset}.train.rating"
print("\n".join(train_file.read_text().splitlines()[:5]) if dataset == "toy" else "not shown")
