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
# # 03 · R-CE: let hard samples weigh less
#
# **Question.** Does weighting every sample by the model's own belief in its label rank held-out true positives better than plain cross-entropy?
#
# **Reads** `data/<dataset>/` · **Writes** runs, `figures/<dataset>/rce_*`, `results/<dataset>/tables/rce.csv` · **Takes** half a minute for `toy`, 4 to 6 minutes for `ml100k` on 2 cores · **Source** arXiv:2006.04153; departures are numbered in `DEVIATIONS.md`.

# %%
try:
    from denoise_lib import params, report
    from denoise_lib.runs import map_runs, plan
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
# A run is one (data set, backbone, method, seed, settings). This is the list of those that this notebook needs: plain cross-entropy (CE) and R-CE. One row per backbone and method, with the settings that are its own. `note` is empty unless a parameter differs from the data set's file.

# %% tags=["nbval-check-output"]
options = params.of_runs(globals())
settings = plan(["CE", "R-CE"], **options)
note = params.note(globals())
report.settings_table(settings)

# %% [markdown]
# ## The method
#
# Instead of a threshold, R-CE lowers the weight of whatever the model finds hard to believe, softly and from the first step:
#
# $$
# \mathcal L_{\text{R-CE}}(u, i) = \omega(u, i)\, \mathcal L_{\text{CE}}(u, i), \qquad \omega(u, i) = \begin{cases} \hat y_{ui}^{\,\beta} & \text{if } \bar y_{ui} = 1 \\ (1 - \hat y_{ui})^{\beta} & \text{otherwise} \end{cases}
# $$
#
# The weight $\omega$ is a constant for the gradient, and $\beta = 0$ is CE. The form is that of the authors' code. Our code: `denoise_lib/losses.py`, `reweighted_cross_entropy`.

# %% [markdown]
# ## The weight
#
# Left: the weight of a positive against its predicted probability, for some exponents. Right: the weighted loss. For β above 0 it peaks at $p = e^{-1/\beta}$ (dots) and falls again below that: a model that is confidently wrong has a *small* R-CE loss. In training that does not matter, since the weight has no gradient; in a validation loss that selects the weights, it can.

# %%
weights = report.weight_points([0, 0.05, 0.1, 0.25, 0.5, 1])
report.publish_figure(
    report.weight_figure(weights), weights, dataset, "rce_weight",
    "R-CE's weight and weighted loss of a positive against its predicted probability", note,
)

# %% [markdown]
# ## Training
#
# Runs that are on disk are read, the others are computed now; the CE runs are shared by 02 and 03, whichever comes first. The progress bar counts runs.

# %%
runs = map_runs(settings, jobs, label="03: CE and R-CE", use_records=use_records)

# %% [markdown]
# ## Loss curves
#
# Upper row: mean loss of the training batches. Lower row: the method's **own** loss on the noisy validation part, which also chooses the weights that are kept (dots, one per seed). CE's and R-CE's losses are different functions, so compare shapes and the place of the minimum, not heights.

# %%
points = report.histories(runs)
report.publish_figure(
    report.curves(points, {"train_loss": "training loss", "valid_loss": "own validation loss"}),
    points, dataset, "rce_loss_curves", "Training and validation loss of CE and R-CE against optimizer steps", note,
)

# %% [markdown]
# ## Which step was kept
#
# The selected step of every seed. A method that is selected at its last evaluation point had not turned yet and might go on improving its loss. Keep the falling branch of the weighted loss in mind where R-CE is selected late.

# %%
report.publish_table(report.selection_table(runs), dataset, "rce_selection", note)

# %% [markdown]
# ## Does it rank better?
#
# Means over test users and seeds ± half the 95 % t-interval over seeds; in parentheses the change against CE, paired by seed, ± half its interval. ▲ better and ▼ worse mark changes whose t-test has p below 0.05 after Holm's correction over this table. Everything else is unresolved by these seeds, whatever its sign, even where an interval leaves out 0.

# %%
table = report.main_table(runs, note)
report.publish_table(table, dataset, "rce", note, shown=report.readable(table))

# %% [markdown]
# The same, counted.

# %%
report.summary(table)

# %% [markdown]
# Every run is there, and every metric is a share.

# %% tags=["nbval-check-output"]
print(len(runs), "runs;", len(table), "cells")
print("all between 0 and 1:", bool(table["mean"].between(0, 1).all()))
