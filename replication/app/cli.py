"""The arguments of ``run_all.sh``: data sets and parameters; then the runs, and the notebooks that show them."""

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import filelock
import joblib

from replication.app import dry_run, new_dataset
from replication.runs import map as run_map
from replication.runs import parameters
from replication.runs.compute import RunsFailed
from replication.runs.parameters import Parameters
from replication.runs.settings import Settings, plan
from replication.runs.store import found, note
from replication.sources import own_table, public
from replication.studies import diagnostics, extra_feedback, fair
from replication.support import paths

MAIN = ("01_data", "02_tce", "03_rce", "04_tables")
STUDIES = {  # option of --study -> its notebook, and the runs that this asks for; 07 is opened by hand
    "diagnostics": ("05_diagnostics", diagnostics.planned),
    "extra-feedback": ("06_extra_feedback", extra_feedback.planned),
    "fair": ("08_fair_fight", fair.planned),
}
FULL = ("diagnostics", "extra-feedback")


def main(arguments: list[str]) -> int:
    """Runs the command. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return run(options, arguments)
    except ValueError as error:
        sys.exit(f"run_all.sh: {error}")
    except KeyboardInterrupt:
        again = _command(arguments)
        print(f"\nInterrupted; finished runs are kept. Continue with: {again}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(130)  # at once: what an orderly exit would still say of its cancelled tasks is noise


def _parser() -> argparse.ArgumentParser:
    rows = [row for row in parameters.described() if row[0] != "dataset"]
    told = {name: f"{kind}{default and ' = '}{default}: {about}" for name, kind, default, about in rows}
    keys = "\n".join(f"  {name:{max(map(len, told))}}  {text}" for name, text in told.items())
    parser = argparse.ArgumentParser(
        prog="run_all.sh",
        description="Runs the notebooks on one data set after another and writes tables, figures and executed copies. "
        "What is on disk is not computed again, so an interrupted call is continued by the same call.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"keys for --set, type = default (in YAML; a dict is by backbone):\n{keys}\n\n{parameters.TYPES}",
    )
    add = parser.add_argument
    add("dataset", nargs="*", help=f"of {', '.join(parameters.datasets())} (default: ml100k)")
    to_set = dict(dest="set", default=[])  # some options are short for --set
    jobs = dict(to_set, metavar="N", action="append", type="jobs={}".format)
    add("--jobs", help="runs side by side, or auto: as many as cores and memory allow", **jobs)
    add("--set", metavar="key=value", action="append", help="overrides params/<dataset>.yaml", **to_set)
    records = dict(to_set, action="append_const", const="use_records=true")
    add("--use-records", help="reads results/<dataset>/records for runs that are not on disk", **records)
    add("--full", action="store_true", help="runs 05_diagnostics and 06_extra_feedback too (an hour each for ml100k)")
    add("--study", action="append", choices=STUDIES, help="runs this study alone, of those that --full has and fair")
    several = dict(metavar="FILE", action="append", type=os.path.abspath)
    add("--method", dest="own_methods", help="adds the losses of a Python file to the comparison", **several)
    add("--backbone", dest="own_backbones", help="adds the backbones of a Python file", **several)
    new = "writes params/NAME.yaml for a table of interactions, or for three: train, valid, test; ends"
    add("--new", nargs="+", metavar=("NAME", "FILE"), help=new)
    order = dict(to_set, metavar="ORDER", action="append", type="split={}".format)
    add("--split", help="how each user's rows of a table are cut: random, or by time", **order)
    add("--list", action="store_true", help="shows data sets, where their data are, and their runs")
    add("--site", action="store_true", help="runs nothing: writes site/, pages of all results, notebooks and documents")
    add("--dry-run", action="store_true", help="trains nothing: shows runs, steps, memory, time, missing files")
    return parser


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Checks everything, then does what is asked. Returns the exit status."""
    changes = _changes(options)
    if options.new:
        if options.dataset or set(changes) - set(new_dataset.GIVEN):
            raise ValueError(f"--new takes a name and a file, and of --set {', '.join(new_dataset.GIVEN)} only")
        print(new_dataset.write_params(options.new[0], options.new[1:], changes))
        return 0
    if options.site:
        from replication.report import site  # nbconvert takes seconds to import

        if options.dataset:
            raise ValueError("--site takes no data set: it shows the results of all")
        print(os.path.relpath(site.write()))
        return 0
    if "ratings" in changes and not options.list:
        for name in set(options.dataset) - set(parameters.datasets()):  # a new name is made as --new makes it
            print(new_dataset.write_params(name, changes["ratings"], changes), file=sys.stderr)
    main, studies = not options.study or options.full, [*(FULL if options.full else ()), *(options.study or ())]
    if options.list and not options.dataset:
        print("\n".join(_state_or_fault(name, changes, main, studies) for name in parameters.datasets()))
        return 0
    names = options.dataset or ["ml100k"]
    chosen = [parameters.resolve(name, changes, where="the call") for name in names]
    planned = [_planned(one, main, studies) for one in chosen]  # so that nothing is begun where anything is refused
    if options.list:
        print("\n".join(map(_state, chosen, planned)))
    elif options.dry_run:
        for one, runs in zip(chosen, planned):
            print(dry_run.describe(one, runs), flush=True)
    else:
        return int(not all(_replicate(one, changes, main, studies, arguments) for one in chosen))
    return 0


def _changes(options: argparse.Namespace) -> dict:
    """What the call changes of a data set's parameters, with paths that mean the same from everywhere."""
    changes = parameters.assigned(options.set)
    changes |= {key: files for key in ("own_methods", "own_backbones") if (files := getattr(options, key))}
    if ratings := changes.get("ratings"):
        changes["ratings"] = os.path.abspath(ratings) if isinstance(ratings, str) else [*map(os.path.abspath, ratings)]
    return changes


def _planned(chosen: Parameters, main: bool = True, studies: Sequence[str] = ()) -> list[Settings]:
    """The runs that the notebooks will ask for."""
    of_studies = [run for name in STUDIES if name in studies for run in STUDIES[name][1](chosen)]
    return run_map.distinct(of_studies + (plan(chosen.all_methods(), chosen) if main else []))


def _replicate(chosen: Parameters, changes: dict, main: bool, studies: list[str], arguments: list[str]) -> bool:
    """01, which gets the data; then all runs that the other notebooks ask for, in one go; then those notebooks, side by
    side: they find every run on disk and write files of their own. False where something failed."""
    from replication.app.notebooks import NotebookFailed  # papermill and matplotlib take seconds to import

    name = chosen.dataset
    os.environ.setdefault("TQDM_NCOLS", str(shutil.get_terminal_size().columns - 1))  # bars end on this stderr
    first, *others = MAIN if main else MAIN[:1]
    others += [STUDIES[name][0] for name in STUDIES if name in studies]
    with _only_one(name):
        if chosen.ratings:
            own_table.prepare(name, **chosen.table())
        try:
            _execute(name, first, changes)
            planned = _planned(chosen, main, studies)
            n_found = sum(bool(found(run, chosen.use_records)) for run in planned)
            compared = ", ".join(dict.fromkeys(run.method for run in planned))
            of_all = f"{len(planned)} runs, {n_found} of them on disk; compared: {compared}"
            print(f"{name}: {of_all}", file=sys.stderr, flush=True)
            run_map.map_runs(planned, chosen.jobs, f"{name}: runs", chosen.use_records)
            pool = ThreadPoolExecutor(joblib.cpu_count() if chosen.jobs == "auto" else chosen.jobs)
            executed = [pool.submit(_execute, name, notebook, changes) for notebook in others]
            while wait(executed, timeout=0.2).not_done:  # one that fails takes no other with it
                pass  # awake again and again: in one long wait Ctrl-C was seen to get lost on a busy machine
            for notebook in executed:
                notebook.result()
        except (NotebookFailed, RunsFailed) as failure:
            print(f"\n{failure}\nContinue, once it is mended, with: {_command(arguments)}", file=sys.stderr)
            return False
        print(_summary(chosen, planned))
        if main and name not in public.CATALOGUE:
            from replication.report import answer

            print(answer.write(chosen))
    return True


def _execute(name: str, notebook: str, changes: dict) -> None:
    from replication.app.notebooks import execute

    started = time.perf_counter()
    print(f"{name}: {notebook} …", file=sys.stderr, flush=True)
    target = paths.results(name) / "notebooks" / f"{notebook}.ipynb"
    execute(paths.NOTEBOOKS[notebook], target, {"dataset": name, "changes": changes})
    print(f"{name}: {notebook} done in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def _summary(chosen: Parameters, planned: Sequence[Settings] = ()) -> str:
    """Writes the verdicts; what a data set's runs show, where everything lies, and whether it is as released."""
    from replication.app.recompute import as_released
    from replication.report import verdicts

    verdicts.write()
    name, remarks, results = chosen.dataset, note(chosen), paths.results(chosen.dataset)
    written = {"tables": results / "tables", "one row per run": results / "runs.csv"}
    written |= {"executed notebooks": results / "notebooks", "figures": paths.figures(name)}
    if name in verdicts.TITLES:
        written["verdicts"] = paths.home() / "VERDICTS.md"
    lines = [f"{name}: finished{f' ({remarks})' if remarks else ''}", *verdicts.at_a_glance(name)]
    lines += [f"{what:18}  {os.path.relpath(where)}" for what, where in written.items()]
    return "\n  ".join(lines + list(filter(None, [as_released(planned)])))


def _only_one(name: str) -> filelock.FileLock:
    """The lock of a data set's results, taken; says for what it waits. The system frees it however its holder ends."""
    file = paths.results(name) / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder, where = file.read_text(encoding="utf-8").strip() or "unknown", os.path.relpath(file.parent)
        print(f"{name}: waiting for process {holder}, which is working on {where}", file=sys.stderr)
        lock.acquire()
    file.write_text(str(os.getpid()), encoding="utf-8")
    return lock


def _state_or_fault(name: str, changes: dict, main: bool, studies: list[str]) -> str:
    """A data set's line of ``--list``, which others' faults do not keep away."""
    try:
        chosen = parameters.resolve(name, changes, where="the call")
        return _state(chosen, _planned(chosen, main, studies))
    except ValueError as error:
        return f"{name}: {error}"


def _state(chosen: Parameters, planned: list[Settings]) -> str:
    """A data set's line of ``--list``: where its data are, and which runs are missing."""
    name, folder = chosen.dataset, os.path.relpath(paths.data(chosen.dataset))
    missing = [run for run in planned if not found(run, chosen.use_records)]
    if not public.is_prepared(name):
        of_all = "" if len(missing) == len(planned) else f" of {len(planned)}"
        return f"{name}: no data yet, the first run puts them into {folder}; {len(missing)}{of_all} runs missing"
    lines = [f"{name}: data in {folder}; {len(planned) - len(missing)} runs finished, {len(missing)} missing"]
    for group in dict.fromkeys((run.backbone, run.method) for run in missing):
        seeds = [run.seed for run in missing if (run.backbone, run.method) == group]
        lines.append(f"missing: {' '.join(group)}, {len(seeds)} runs of seeds {' '.join(map(str, sorted(set(seeds))))}")
    return "\n  ".join(lines)


def _command(arguments: list[str]) -> str:
    return shlex.join(["./run_all.sh", *arguments])
