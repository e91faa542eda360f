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
# # 06 · Extra feedback: do a few known true positives help?
#
# **Question.** The journal version (arXiv:2112.01160) lets a little reliable feedback, such as ratings, help the denoising. Its abstract claims that three strategies "largely enhance the denoising ability". What do they do here, and do they do more than the same feedback used plainly?
#
# **Reads** the runs of 02 and 03 and computes those of the strategies · **Writes** `figures/<dataset>/`, `results/<dataset>/tables/` · **Takes** a minute for `toy`, about an hour for `ml100k` on 2 cores; `run_all.sh --full` runs it · **Source** arXiv:2112.01160, abstract and figures only.
#
# **What is assumed**, since the text was not at hand and no public code was found (DEVIATIONS.md, D16 to D18): which share of the true positives is known, how long and at what rate the second stage trains, in which space users are neighbours, and on which side λ stands. No number of that paper is known to us, so none stands beside ours.

# %% jupyter={"source_hidden": true}
# A ModuleNotFoundError here? In this kernel's environment: pip install -e '<the project>[replication]' (README.md).
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from replication.methods.known_positives import known_positives
from replication.report import figures, tables
from replication.report.publish import publish_figure, publish_table, show_parameters
from replication.report.statistics import by_interval
from replication.report.verdicts import publish_study
from replication.runs.map import map_runs
from replication.runs.parameters import ExtraFeedbackParameters, resolve
from replication.runs.recipe import split_for
from replication.runs import store
from replication.studies import extra_feedback

# %% [markdown]
# Which data set, and what to change of its parameters, such as `{"epochs": 3}`. Opened by hand, this notebook runs on the toy data set.

# %% jupyter={"source_hidden": true} tags=["parameters"]
dataset = "toy"  # names params/<dataset>.yaml
changes = {}  # parameter: value

# %% [markdown]
# The parameters, read from the file of the data set. What is changed is named here, and again on every table and figure.

# %% jupyter={"source_hidden": true}
parameters = resolve(dataset, changes)
show_parameters(parameters, ExtraFeedbackParameters)

# %% [markdown]
# The runs. `fine-tuning`: first everything with CE, T-CE or R-CE, then the known true positives with CE. `warm-up`: the reverse. Both are two ordinary trainings, the second starting from the weights of the first. Two baselines use the same feedback plainly: `weighted` counts a known true positive several times in one CE training, `known-only` trains on nothing else. In all of them the items of every observed interaction are no negatives, CDAE reads the whole training part, and validation (noisy) selects the step. What needs flags runs only where the training part has them.

# %% tags=["nbval-check-output"]
note = store.note(parameters)
left_out = Markdown("Left out: the training part has no flags, or the parameters of this data set do not ask for it.")
planned = extra_feedback.strategy_plan(parameters)
print(len(planned), "runs of strategies and baselines")

# %% [markdown]
# Runs that are on disk are read, the others are computed now.

# %%
if planned:
    plain = map_runs(extra_feedback.plain_plan(parameters), parameters.jobs, "06: without extra feedback", parameters.use_records)
    trained = map_runs(planned, parameters.jobs, "06: strategies", parameters.use_records)
    k = max(parameters.top_k)

# %% [markdown]
# ## What is known
#
# Known true positives of the first seed at each share, and how many users have one. They are drawn from the training part alone; a pair that validation or test hold as well is never drawn.

# %% tags=["nbval-check-output", "data"]
if planned:
    split = split_for(plain[0].settings)
    for share in parameters.known_shares:
        known = known_positives(split, share, plain[0].settings.seed)
        print(f"share {share:g}: {len(known):,} of {split.train.is_clean.sum():,} true positives, {len(set(known.users)):,} of {split.n_users:,} users")

# %% [markdown]
# ## Colliding inference
#
# At inference a user's score is mixed with the mean score of the user's neighbours, $\lambda f(u, i) + (1 - \lambda) \frac{1}{|N_u|} \sum_{j \in N_u} f(j, i)$; nothing is trained. **Assumed**: f is the logit, neighbours are by cosine, λ stands at the own score. The space is unknown, so three are tried: `own-positives` (the known true positives), `learned` (user vectors of the model) and `all` (all training interactions). Only the first uses extra feedback.

# %%
if planned:
    grids, chosen, collided = extra_feedback.colliding(plain, parameters)

# %% [markdown]
# Validation Recall of the models trained with CE, mean over seeds, for every λ and number of neighbours. λ = 1, the right column, is the plain model. A star marks the best mean; where the right column is framed, nothing is better than the plain model. Each panel has its own scale: look at the colour bar before reading a difference.

# %%
if planned:
    grid = grids[(grids["method"] == "CE") & grids["known_share"].isin([parameters.compared_share, None])]
    space = "space: " + grid["strategy"].str.extract(r"\((.*)\)", expand=False) + "\nnumber of neighbours"
    figure, each = figures.facets(grid.assign(space=space), "space", "backbone", "λ, weight of the own score")
    for axis, panel in each:
        means = panel.pivot_table("value", "neighbours", "lambda")
        drawn = axis.imshow(means, aspect="auto", origin="lower", cmap="cividis")
        row, column = np.unravel_index(means.to_numpy().argmax(), means.shape)
        if means.columns[column] == 1:
            axis.axvspan(column - 0.5, column + 0.5, fill=False, edgecolor="black", linewidth=3)
        else:
            axis.plot(column, row, marker="*", color="white", markeredgecolor="black", markersize=12)
        axis.grid(visible=False)
        axis.set_xticks(range(means.shape[1]), means.columns.map("{:g}".format), fontsize=7)
        axis.set_yticks(range(len(means)), means.index, fontsize=7)
        figure.colorbar(drawn, ax=axis).ax.tick_params(labelsize=7)
    figure.suptitle(f"Recall@{k} on validation, CE, known share {parameters.compared_share:g}", fontsize=10)
    about = "Validation Recall of colliding inference for every weight of the own score and number of neighbours"
    display(publish_figure(figure, grid, dataset, "colliding", about, note))
else:
    display(left_out)

# %% [markdown]
# What validation chose for each seed: the number of neighbours and λ, or the plain model; and the share of users without any neighbour, who keep their own scores.

# %%
if planned:
    choice = chosen["neighbours"].astype(str) + " at λ = " + chosen["lambda"].map("{:g}".format)
    choice = choice.where(chosen["lambda"] != 1, "plain")
    shares = chosen["known_share"].map("{:g}".format, na_action="ignore").fillna("")
    by_seed = chosen.assign(choice=choice, known_share=shares).groupby(extra_feedback.KEYS[:4], sort=False)
    shown = by_seed.agg(**{"neighbours at λ, by seed": ("choice", ", ".join), "without neighbours": ("without", "mean")})
    shown = shown.reset_index().round({"without neighbours": 3})
    display(publish_table(chosen, dataset, "colliding_chosen", note, shown))

# %% [markdown]
# ## All strategies
#
# Change of the test metrics against plain training with CE (the zero line), against the known share; error bars are 95 % intervals of the change over seeds, points are shifted sideways to be told apart. The two colliding inferences that know nothing are the same at every share. A strategy that uses its feedback should rise with the share, above zero and above the baseline `weighted`. `known-only` stands in the table alone: its losses would hide the others.

# %%
if planned:
    values = extra_feedback.all_values(plain, trained, collided)
    table = extra_feedback.extra_table(values)
    of_ce = tables.with_metric(tables.changed(table).query("method == 'CE' and k == @k and strategy != 'known-only'"))
    of_ce = of_ce.assign(mean=of_ce["change"], low=of_ce["change_low"], high=of_ce["change_high"], measured="change of " + of_ce["measured"])
    knowing, unknowing = of_ce[of_ce["known_share"].notna()], of_ce[of_ce["known_share"].isna()]
    everywhere = [unknowing.assign(known_share=share) for share in parameters.known_shares]
    points = pd.concat([knowing, *everywhere], ignore_index=True).sort_values("known_share", kind="stable")
    display(publish_figure(
        figures.panels(points, x="known_share", line="strategy", column="backbone", row="measured", xlabel="known share", named=True, zero=0),
        points, dataset, "extra_feedback", "Change of Recall and NDCG by each strategy against the known share", note,
    ))

# %% [markdown]
# The numbers, for all losses: mean ± half its 95 % interval over seeds; Δ is the change against the same backbone, loss and seed without extra feedback, ± half its interval, which is not corrected for their number. The claim counts fine-tuning, warm-up and the colliding inference that uses the feedback; all shares.

# %%
if planned:
    in_order = lambda column: column.map(list(table[column.name].unique()).index)
    at_k = table[table["k"] == k].sort_values(["backbone", "method"], key=in_order, kind="stable")
    at_k = at_k.assign(known_share=at_k["known_share"].map("{:g}".format, na_action="ignore").fillna(""))
    shown = tables.readable(at_k, keys=["backbone", "method", "strategy", "known_share"])
    display(publish_study("extra_feedback", table, dataset, note, shown))

# %% [markdown]
# What that says, counted: cells of Recall and NDCG whose interval, not corrected, lies above or below 0.

# %%
if planned:
    cells = tables.changed(table)
    found = by_interval(cells["change_low"], cells["change_high"]).groupby([cells["strategy"], cells["method"]], sort=False)
    counts = found.agg(lambda each: f"{(each == 'above 0').sum()} above, {(each == 'below 0').sum()} below of {len(each)}")
    display(counts.unstack().loc[cells["strategy"].unique(), cells["method"].unique()].fillna("–"))
else:
    display(left_out)

# %% [markdown]
# Every run is there.

# %% tags=["nbval-check-output"]
print("seeds per cell:", sorted(table["n_seeds"].unique().tolist()) if planned else None)
