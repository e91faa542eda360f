"""Computing runs: one here, or many side by side, in processes of this machine or on a Dask cluster."""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from types import ModuleType

import torch

from denoise_lib.data import Split
from replication.runs import recipe
from replication.runs.settings import Settings
from replication.runs.store import folder_of, found, load_run, write
from replication.sources import public

Outcomes = Iterator[tuple[Settings, str | None]]  # (run, None) as each is finished, (run, what happened) as each fails
# Processes are forked from one that has imported everything, which takes seconds.
multiprocessing.set_forkserver_preload(["torch._dynamo", __name__])


class RunsFailed(RuntimeError):
    """Some runs failed, or none could start: the message names each with its settings, and says what happened."""


def attempt(run: Settings, progress: Callable | None = None) -> str | None:
    """Computes a run; what happened where it fails."""
    try:
        compute(run, progress)
    except Exception:
        return traceback.format_exc(limit=-4)


def compute(run: Settings, progress: Callable | None = None) -> None:
    """Trains, evaluates and writes one run. Where it was stopped before, it continues from its checkpoint.

    Raises:
        OSError: the results cannot be written; a folder in which nothing can be made is noticed before the training.
    """
    folder = folder_of(run)
    checkpoint = folder.parent / ".partial" / f"{folder.name}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder.parent).close()

    write(run, recipe.train(run, public.load(run.dataset), pretrained(run), checkpoint, progress))
    checkpoint.unlink(missing_ok=True)


def pretrained(run: Settings) -> list[torch.nn.Module]:
    if lacking := [first.name for first in run.pretrained if not found(first)]:
        raise RuntimeError(f"it starts from {' and '.join(lacking)}, which failed")
    return [load_run(first, found(first)).model() for first in run.pretrained]


def in_processes(missing: list[Settings], jobs: int, progress: Callable) -> Outcomes:
    """Computes runs, each in a process of its own, ``jobs`` at a time. One that starts from others waits for them.

    ``progress(run, step, number of steps, validation loss)`` is called at each evaluation point. A process that dies,
    killed by hand or for want of memory, takes its own run with it; that run is reported and not tried again.
    """
    queue, busy = list(missing), {}  # busy: connection -> (process, its run)
    try:
        while queue or busy:
            ready = list(islice((run for run in queue if all(map(found, run.pretrained))), jobs - len(busy)))
            # With nothing under way, what a run waits for has failed: it is given out all the same, to say so.
            for run in ready or ([] if busy else queue[:1]):
                queue.remove(run)
                connection, process = _start(run)
                busy[connection] = process, run
            for connection in wait(list(busy)):
                process, run = busy[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError):  # the second in the middle of a message
                    process.join()
                    answer = _cause_of_death(process.exitcode)
                if isinstance(answer, tuple):
                    progress(run, *answer)
                else:
                    del busy[connection]
                    process.join()
                    yield run, answer
    finally:
        for process, _ in busy.values():
            process.kill()
            process.join()


def _start(run: Settings) -> tuple[Connection, multiprocessing.Process]:
    context = multiprocessing.get_context("spawn" if run.device == "cuda" else "forkserver")  # CUDA survives no fork
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(run, dict(os.environ), there))
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")  # else each would run the script
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        there.close()
    return here, process


def _work(run: Settings, environment: dict[str, str], connection: Connection) -> None:
    os.environ.update(environment)  # a server has that of its own start
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends this one
    os.dup2(2, 1)  # what it prints goes to stderr: stdout is the parent's
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    connection.send(attempt(run, lambda *where: connection.send(where)))


def _end_with_the_parent() -> None:
    """Whatever ends the parent, nothing trains on unseen."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _cause_of_death(code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    why = " (signal 9 often means that memory ran out)" if code == -signal.SIGKILL else ""
    return f"ProcessDied: its process {how}{why}"


def on_cluster(missing: list[Settings], scheduler: str) -> Outcomes:
    """Computes runs on a Dask cluster. A data set travels once to each worker, what a run gives comes back and is
    written here, and a run whose worker dies is given to another one, three times.

    The result is the same to the last bit as on a single machine of the same kind (docs/cluster.md).
    """
    try:
        from distributed import Client, as_completed

        client = Client(scheduler)
    except ModuleNotFoundError:
        why = "Dask is not installed: pip install -e '.[cluster]'"
        raise RunsFailed(f"DENOISE_DASK_SCHEDULER is set but {why}") from None
    except (OSError, ValueError) as error:
        raise RunsFailed(f"DENOISE_DASK_SCHEDULER: no scheduler answers at {scheduler} ({error})") from None
    with client:
        names = dict.fromkeys(run.dataset for run in missing)
        data = {name: client.scatter(public.load(name), broadcast=True, hash=False) for name in names}
        for is_second in (False, True):  # a run that starts from others comes after them
            run_of = {}
            for run in (run for run in missing if bool(run.pretrained) == is_second):
                try:
                    first_stages = pretrained(run)
                except RuntimeError as error:
                    yield run, str(error)
                    continue
                run_of[client.submit(_in_cluster_worker, run, data[run.dataset], first_stages, pure=False)] = run
            for future in as_completed(run_of):
                run = run_of[future]
                if future.status == "finished":
                    write(run, future.result())
                    yield run, None
                else:
                    yield run, "".join(traceback.format_exception(future.exception(), limit=-4))
                future.release()


_ONE_RUN = threading.Lock()  # in a worker with several threads too: torch's threads and generators are the process's


def _in_cluster_worker(run: Settings, data: Split, pretrained: list[torch.nn.Module]) -> recipe.Finished:
    with _ONE_RUN:
        return recipe.train(run, data, pretrained)
