"""The arguments of ``run_all.sh``: which data sets, which parameters; then the runs, and the notebooks that show them."""

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import filelock
import joblib

from denoise_lib import datasets, own_data, params, paths, runs


def main() -> None:
    arguments = sys.argv[1:]
    try:
        sys.exit(run(_parser().parse_args(arguments), arguments))
    except ValueError as error:
        sys.exit(f"run_all.sh: {error}")
    except KeyboardInterrupt:
        print(f"\nInterrupted; finished runs are kept. Continue with: {_command(arguments)}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(130)  # at once: what an orderly exit would still say of its cancelled tasks is noise


def _parser() -> argparse.ArgumentParser:
    known = params.all_declared()
    width = max(map(len, known))
    parser = argparse.ArgumentParser(
        prog="run_all.sh",
        description="Runs the notebooks on one data set after another and writes tables, figures and executed copies. "
        "What is on disk is not computed again, so an interrupted call is continued by the same call.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="keys for --set (a value is YAML; a dict maps backbones to values):\n"
        + "\n".join(f"  {name:{width}}  {kind}: {about}" for name, (kind, about) in sorted(known.items()) if name != "dataset"),
    )
    parser.add_argument("dataset", nargs="*", help=f"of {', '.join(params.datasets())} (default: ml100k)")
    parser.add_argument("--jobs", metavar="N", help="runs side by side, or auto: as many as cores and memory allow")
    parser.add_argument("--set", metavar="key=value", action="append", default=[], help="overrides params/<dataset>.yaml")
    parser.add_argument(
        "--use-records", action="store_true", help="reads results/<dataset>/records in the place of runs that are not on disk"
    )
    parser.add_argument("--full", action="store_true", help="runs 05_diagnostics and 06_extra_feedback too (an hour each for ml100k)")
    parser.add_argument(
        "--new", nargs=2, metavar=("NAME", "FILE"), help="writes params/NAME.yaml for a CSV or TSV file of interactions, and ends"
    )
    parser.add_argument("--list", action="store_true", help="shows data sets, where their data are, and their runs")
    parser.add_argument(
        "--html", action="store_true", help="runs nothing: writes the executed notebooks as one page, results/<dataset>/report.html"
    )
    parser.add_argument("--dry-run", action="store_true", help="trains nothing: shows runs, steps, memory, time, missing files")
    return parser


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Checks everything, then lists or runs. Returns the exit status."""
    if options.new:
        if options.dataset or set(params.given(options.set)) - {"columns", "clean_from"}:
            raise ValueError("--new takes a name and a file, and of --set columns and clean_from; the rest goes into the file it writes")
        print(_new_params(*options.new, options.set))
        return 0
    options.set = [_whole_path(assignment) for assignment in options.set]
    if (ratings := params.given(options.set).get("ratings")) and not options.list and not options.html:
        for name in set(options.dataset) - set(params.datasets()):  # a new name with --set ratings=… is as --new would make it
            print(_new_params(name, ratings, options.set), file=sys.stderr)
    overrides = options.set + ([f"jobs={options.jobs}"] if options.jobs else [])
    overrides += ["use_records=true"] if options.use_records else []
    chosen = {}
    for name in options.dataset or (params.datasets() if options.list else ["ml100k"]):
        values = params.override(params.read(name), overrides)
        if values["ratings"] and name in datasets.SIZES:
            raise ValueError(f"ratings: {name} has a source of its own; name the data set of your table as you like")
        if values["jobs"] != "auto" and not (isinstance(values["jobs"], int) and values["jobs"] > 0):
            raise ValueError(f"jobs is a positive number or auto, got {values['jobs']!r}")
        chosen[name] = values, _planned(values, options.full)
    if options.list:
        for name, (values, planned) in chosen.items():
            print(_state(name, planned, values["use_records"]))
        return 0
    if options.html:
        from denoise_lib import html_report

        for name in chosen:
            print(os.path.relpath(html_report.write(name)), flush=True)
        return 0
    if options.dry_run:
        from denoise_lib.dry_run import describe

        for values, planned in chosen.values():
            print(describe(values, planned), flush=True)
        return 0
    for name, (values, _) in chosen.items():
        with _only_one(name):
            if values["ratings"]:
                own_data.prepare(name, values["ratings"], values["columns"], values["clean_from"])
            if not _replicate(name, values, options.full, arguments):
                return 1
    return 0


def _new_params(name: str, ratings: str, assignments: list[str]) -> str:
    about = {key: value for key, value in params.given(assignments).items() if key in ("columns", "clean_from")}
    file, lines = own_data.write_params(name, ratings, **about)
    written = f"wrote {os.path.relpath(file)}: read it, change what you like, then ./run_all.sh {name}"
    return "\n".join([f"{name}: {line}" for line in lines] + [written])


def _whole_path(assignment: str) -> str:
    """``ratings=<path>`` with a path that means the same from everywhere."""
    key, _, path = assignment.partition("=")
    return f"{key}={json.dumps(str(Path(path).resolve()))}" if key == "ratings" else assignment


def _planned(values: dict, full: bool) -> list[runs.Settings]:
    """The runs that the notebooks will ask for."""
    wanted = runs.plan(runs.METHODS, **params.of_runs(values))
    if full:
        from denoise_lib import extra_studies, studies

        extra_studies.checked(values)
        wanted = studies.planned(values) + wanted + extra_studies.planned(values)
    return runs.distinct(wanted)


def _replicate(name: str, values: dict, full: bool, arguments: list[str]) -> bool:
    """01, which gets the data; then all runs that the other notebooks ask for, in one go; then those notebooks, side by side:
    they find every run on disk and write files of their own. False where something failed."""
    from denoise_lib import verdicts  # these take seconds to import: papermill, matplotlib
    from denoise_lib.notebooks import NotebookFailed

    os.environ.setdefault("TQDM_NCOLS", str(shutil.get_terminal_size().columns - 1))  # bars of notebooks end up on this stderr
    first, *others = _notebooks(full)
    try:
        _execute(name, first, values)
        planned = _planned(values, full)
        n_found = sum(bool(runs.found(run, values["use_records"])) for run in planned)
        print(f"{name}: {len(planned)} runs, {n_found} of them on disk", file=sys.stderr, flush=True)
        runs.compute_missing(planned, values["jobs"], f"{name}: runs", values["use_records"])
        pool = ThreadPoolExecutor(joblib.cpu_count() if values["jobs"] == "auto" else values["jobs"])
        executed = [pool.submit(_execute, name, notebook, values) for notebook in others]
        while wait(executed, timeout=0.2).not_done:  # one that fails takes no other with it
            pass  # awake again and again: in one long wait Ctrl-C was seen to get lost on a busy machine
        for notebook in executed:
            notebook.result()
    except (NotebookFailed, runs.RunsFailed) as failure:
        print(f"\n{failure}\nContinue, once it is mended, with: {_command(arguments)}", file=sys.stderr)
        return False
    verdicts.write()
    print(_summary(name, values))
    return True


def _notebooks(full: bool) -> list[Path]:
    """01 to 04, or to 06; 07 is opened by hand."""
    return [notebook for notebook in params.notebooks() if notebook.stem[:2] <= ("06" if full else "04")]


def _execute(name: str, notebook: Path, values: dict) -> None:
    from denoise_lib.notebooks import execute

    started = time.perf_counter()
    print(f"{name}: {notebook.stem} …", file=sys.stderr, flush=True)
    given = {key: value for key, value in values.items() if key in params.declared(notebook)}
    execute(notebook, paths.results(name) / "notebooks" / f"{notebook.stem}.ipynb", given)
    print(f"{name}: {notebook.stem} done in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def _summary(name: str, values: dict) -> str:
    """What a data set's runs show, and where everything lies."""
    from denoise_lib import verdicts

    note = params.note(values)
    lines = [f"{name}: finished{f' ({note})' if note else ''}", *(f"  {line}" for line in verdicts.at_a_glance(name))]
    written = {
        "tables": paths.results(name) / "tables",
        "one row per run": paths.results(name) / "runs.csv",
        "executed notebooks": paths.results(name) / "notebooks",
        "figures": paths.figures(name),
    }
    if name in verdicts.TITLES:
        written["verdicts"] = paths.home() / "VERDICTS.md"
    for what, where in written.items():
        lines.append(f"  {what:18}  {os.path.relpath(where)}")
    return "\n".join(lines)


def _only_one(name: str) -> filelock.FileLock:
    """The lock of a data set's results, taken; says for what it waits. The system frees it however its holder ends."""
    file = paths.results(name) / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = file.read_text().strip() or "unknown"
        print(f"{name}: waiting for process {holder}, which is working on {os.path.relpath(file.parent)}", file=sys.stderr)
        lock.acquire()
    file.write_text(str(os.getpid()))
    return lock


def _state(name: str, planned: list[runs.Settings], use_records: bool) -> str:
    folder = os.path.relpath(paths.data(name))
    if not datasets.is_prepared(name):
        return f"{name}: no data yet, the first run puts them into {folder}; {len(planned)} runs missing"
    missing = defaultdict(list)
    for settings in planned:
        if not runs.found(settings, use_records):
            missing[f"{settings.backbone} {settings.method}"].append(settings.seed)
    n_missing = sum(map(len, missing.values()))
    lines = [f"{name}: data in {folder}; {len(planned) - n_missing} runs finished, {n_missing} missing"]
    for group, seeds in missing.items():
        lines.append(f"  missing: {group}, {len(seeds)} runs of seeds {' '.join(map(str, sorted(set(seeds))))}")
    return "\n".join(lines)


def _command(arguments: list[str]) -> str:
    return shlex.join(["./run_all.sh", *arguments])


if __name__ == "__main__":
    main()
