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
# # 06 · Extra feedback: do a few known true positives help?
#
# **Question.** The journal version (arXiv:2112.01160) lets a little reliable feedback, such as ratings, help the denoising. Its abstract claims that three strategies "largely enhance the denoising ability". What do they do here, and do they do more than the same feedback used plainly?
#
# **Reads** the runs of 02 and 03 and computes those of the strategies · **Writes** `figures/<dataset>/`, `results/<dataset>/tables/` · **Takes** a minute for `toy`, about an hour for `ml100k` on 2 cores; `run_all.sh --full` runs it · **Source** arXiv:2112.01160, abstract and figures only.
#
# **What is assumed**, since the text was not at hand and no public code was found (DEVIATIONS.md, D16 to D18): which share of the true positives is known, how long and at what rate the second stage trains, in which space users are neighbours, and on which side λ stands. No number of that paper is known to us, so none stands beside ours.

# %%
try:
    from IPython.display import Markdown

    from denoise_lib import extra_studies, params, report, verdicts
    from denoise_lib.extra_feedback import known_positives
    from denoise_lib.runs import load_split, map_runs
    from denoise_lib.studies import has_flags
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
extra_seeds: dict[str, list[int]] = {"GMF": [1, 2]}  # backbone -> seeds of this notebook
known_shares: list[float] = [0.2, 0.5]  # of the training part's true positives, that are known; []: no such study
compared_share: float = 0.2  # the one for T-CE and R-CE, which are not done for all
fine_tuning_epochs: int = 1  # at most, in epochs of the whole training part
fine_tuning_lr: float | dict[str, float] = 0.001  # Adam's learning rate of fine-tuning
known_weight: float = 5.0  # what a known true positive counts in the baseline "weighted"
neighbours: list[int] = [1, 5, 20]  # colliding inference: numbers of neighbours to choose from
lambdas: list[float] = [0.0, 0.5, 1.0]  # colliding inference: weights of the own score to choose from

# %% [markdown]
# The runs. `fine-tuning`: first everything with CE, T-CE or R-CE, then the known true positives with CE. `warm-up`: the reverse. Both are two ordinary trainings, the second starting from the weights of the first. Two baselines use the same feedback plainly: `weighted` counts a known true positive several times in one CE training, `known-only` trains on nothing else. In all of them the items of every observed interaction are no negatives, CDAE reads the whole training part, and validation (noisy) selects the step. What needs flags runs only where the training part has them.

# %% tags=["nbval-check-output"]
note = params.note(globals())
runs_at_all = bool(known_shares) and has_flags(dataset)
left_out = Markdown("Left out: the training part has no flags, or the parameters of this data set do not ask for it.")
planned = extra_studies.strategy_plan(globals()) if runs_at_all else []
print(len(planned), "runs of strategies and baselines")

# %% [markdown]
# Runs that are on disk are read, the others are computed now.

# %%
if runs_at_all:
    plain = map_runs(extra_studies.plain_plan(globals()), jobs, label="06: without extra feedback")
    trained = map_runs(planned, jobs, label="06: strategies")
    split = load_split(plain[0].settings)
    k = max(top_k)

# %% [markdown]
# ## What is known
#
# Known true positives of the first seed at each share, and how many users have one. They are drawn from the training part alone; a pair that validation or test hold as well is never drawn.

# %% tags=["nbval-check-output"]
if runs_at_all:
    for share in known_shares:
        known = known_positives(split, share, plain[0].settings.seed)
        print(f"share {share:g}: {len(known):,} of {split.train.is_clean.sum():,} true positives, {len(set(known.users)):,} of {split.n_users:,} users")

# %% [markdown]
# ## Colliding inference
#
# At inference a user's score is mixed with the mean score of the user's neighbours, $\lambda f(u, i) + (1 - \lambda) \frac{1}{|N_u|} \sum_{j \in N_u} f(j, i)$; nothing is trained. **Assumed**: f is the logit, neighbours are by cosine, λ stands at the own score. The space is unknown, so three are tried: `own-positives` (the known true positives), `learned` (user vectors of the model) and `all` (all training interactions). Only the first uses extra feedback.

# %%
if runs_at_all:
    collided = extra_studies.colliding(plain, split, known_shares, compared_share, neighbours, lambdas, top_k, jobs)

# %% [markdown]
# Validation Recall of the models trained with CE, mean over seeds, for every λ and number of neighbours. λ = 1, the right column, is the plain model. A star marks the best mean; where the right column is framed, nothing is better than the plain model. Each panel has its own scale: look at the colour bar before reading a difference.

# %%
if runs_at_all:
    grid = collided.grid[(collided.grid["method"] == "CE") & collided.grid["known_share"].isin([compared_share, None])]
    picture = report.publish_figure(
        extra_studies.heat_map(grid, f"Recall@{k} on validation, CE, known share {compared_share:g}"), grid, dataset, "colliding",
        "Validation Recall of colliding inference for every weight of the own score and number of neighbours", note,
    )
else:
    picture = left_out
picture

# %% [markdown]
# What validation chose for each seed: the number of neighbours and λ, or the plain model; and the share of users without any neighbour, who keep their own scores.

# %%
if runs_at_all:
    shown = extra_studies.readable_choices(collided.chosen)
    picture = report.publish_table(collided.chosen, dataset, "colliding_chosen", note, shown)
picture

# %% [markdown]
# ## All strategies
#
# Change of the test metrics against plain training with CE (the zero line), against the known share; error bars are 95 % intervals of the change over seeds, points are shifted sideways to be told apart. The two colliding inferences that know nothing are the same at every share. A strategy that uses its feedback should rise with the share, above zero and above the baseline `weighted`. `known-only` stands in the table alone: its losses would hide the others.

# %%
if runs_at_all:
    values = extra_studies.all_values(plain, trained, collided)
    table = extra_studies.extra_table(values)
    points = extra_studies.by_share(table, known_shares, k)
    picture = report.publish_figure(
        report.panels(points, x="known_share", line="strategy", column="backbone", row="measured", xlabel="known share", named=True, zero=0),
        points, dataset, "extra_feedback", "Change of Recall and NDCG by each strategy against the known share", note,
    )
picture

# %% [markdown]
# The numbers, for all losses: mean ± half its 95 % interval over seeds; in parentheses the change against the same backbone, loss and seed without extra feedback, ▲ better or ▼ worse after Holm's correction over the table, otherwise unresolved. The claim counts fine-tuning, warm-up and the colliding inference that uses the feedback; all shares.

# %%
if runs_at_all:
    picture = verdicts.publish_study("extra_feedback", table, dataset, note, extra_studies.readable(table, k))
picture

# %% [markdown]
# What that says, counted.

# %%
Markdown(extra_studies.says(table)) if runs_at_all else left_out

# %% [markdown]
# Every run is there.

# %% tags=["nbval-check-output"]
print("seeds per cell:", sorted(table["n_seeds"].unique().tolist()) if runs_at_all else None)
