"""The runs of 08_fair_fight: every method is tuned, selected and stopped by one rule, on several splits."""

from dataclasses import replace

from replication.methods import FAIR, METHODS
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.sources import public

PATIENCE = 20  # evaluation points without a better one, after which a run stops
LONGEST = 5  # times the epochs of the main table, after which it stops in any case


def planned(parameters: Parameters) -> list[Settings]:
    """All runs of the study with the parameters of a data set; without flags, not those of methods that use them."""
    flags = public.has_flags(parameters.dataset)
    methods = [name for name in FAIR if flags or not METHODS[name].uses_flags]
    return [run for backbone in parameters.fair.lr for run in of_backbone(parameters, backbone, methods)]


def of_backbone(parameters: Parameters, backbone: str, methods: list[str], **options) -> list[Settings]:
    """The runs of some methods. ``options`` take the place of those that were chosen, as the tuning asks."""
    fair = parameters.fair
    options = {
        name: values[backbone] for name, values in fair.model_dump(exclude={"splits"}).items() if values
    } | options
    options |= {"epochs": LONGEST * parameters.value("epochs", backbone), "own_backbones": []}
    studied = parameters.having(backbones=[backbone], **options)
    pairs = [(None, seed) for seed in parameters.value("seeds", backbone)]
    return [
        replace(run, split_seed=split, patience=PATIENCE, knows_validation=bool(METHODS[run.method].drop_keys) or None)
        for split, seed in [(seed, seed) for seed in fair.splits] or pairs
        for run in plan(methods, studied.having(seeds=[seed]), diagnostics=True)
    ]
