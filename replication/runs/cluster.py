"""Computing runs on a Dask cluster."""

import threading
import traceback
from collections.abc import Iterator

import torch

from denoise_lib.data import Split
from replication.runs import recipe
from replication.runs.compute import RunsFailed, pretrained, write
from replication.runs.settings import Settings
from replication.sources import public


def on_cluster(missing: list[Settings], scheduler: str) -> Iterator[tuple[Settings, str | None]]:
    """Computes runs on a Dask cluster. A data set travels once to each worker, what a run gives comes back and is
    written here, and a run whose worker dies is given to another one, three times.

    The result is the same to the last bit as on a single machine of the same kind. docs/cluster.md says how to start
    one.
    """
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError:
        raise RunsFailed(
            "DENOISE_DASK_SCHEDULER is set but Dask is not installed: pip install -e '.[cluster]'"
        ) from None
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise RunsFailed(f"DENOISE_DASK_SCHEDULER: no scheduler answers at {scheduler} ({error})") from None
    with client:
        names = dict.fromkeys(run.dataset for run in missing)
        data = {name: client.scatter(public.load(name), broadcast=True, hash=False) for name in names}
        for stage in ([run for run in missing if not run.pretrained], [run for run in missing if run.pretrained]):
            run_of = {}
            for run in stage:
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
