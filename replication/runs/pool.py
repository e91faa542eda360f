"""Processes that compute runs side by side. One that dies takes its own run with it and no other."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue

from replication.runs.compute import attempt
from replication.runs.settings import Settings


def computed(
    missing: list[Settings], jobs: int, show: Callable[[Settings], Callable], is_ready: Callable[[Settings], bool]
) -> Iterator[tuple[Settings, str | None]]:
    """Computes runs in ``jobs`` processes: (run, None) as each is finished, (run, what happened) as each fails.

    ``show(run)`` is called with (step, number of steps, validation loss) at each of its evaluation points.
    A run that is not ready, since it starts from others, waits for them.
    A process that dies, killed by hand or for want of memory, is replaced; its run is reported and not tried again.
    """
    queue, busy, idle = list(missing), {}, []  # busy: connection -> (process, its run); idle: (connection, process)
    try:
        while queue or busy:
            # With nothing under way, what a run waits for has failed: it is given out all the same, to say so.
            while len(busy) < jobs and (run := next(filter(is_ready, queue), queue[0] if queue and not busy else None)):
                queue.remove(run)
                connection, process = idle.pop() if idle else _start()
                busy[connection] = process, run
                with suppress(OSError):  # it died between two runs: receiving says so
                    connection.send(run)
            while idle:
                _end(idle.pop()[1])
            for connection in wait(list(busy)):
                process, run = busy[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError):  # the second in the middle of a message
                    del busy[connection]
                    yield run, _cause_of_death(process.wait())
                    continue
                if isinstance(answer, tuple):
                    show(run)(*answer)
                    continue
                del busy[connection]
                idle.append((connection, process))
                yield run, answer
    finally:
        for process in [process for process, _ in busy.values()] + [process for _, process in idle]:
            _end(process)


def _start() -> tuple[Connection, subprocess.Popen]:
    """A process, this module run as a script, and the connection on which it takes settings and says what happened."""
    here, there = Pipe()
    command = [sys.executable, "-m", "replication.runs.pool", str(there.fileno())]
    path = os.pathsep.join(filter(None, sys.path))  # it imports what this process imports
    with there:
        # What it prints goes to stderr (2): stdout is this process's.
        return here, subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[there.fileno()],
            env=os.environ | {"PYTHONPATH": path},
        )


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _cause_of_death(code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    why = " (signal 9 often means that memory ran out)" if code == -signal.SIGKILL else ""
    return f"ProcessDied: its process {how}{why}"


def _work(connection: Connection) -> None:
    """The worker: computes the runs that come in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends this one
    asked: SimpleQueue = SimpleQueue()
    threading.Thread(target=_read, args=(connection, asked), daemon=True).start()
    while True:
        _, failure = attempt(asked.get(), lambda *where: connection.send(where))
        connection.send(failure)


def _read(connection: Connection, asked: SimpleQueue) -> None:
    """Ends the worker as soon as its parent has ended, whatever ended that: nothing trains on unseen."""
    with suppress(EOFError, OSError):
        while True:
            asked.put(connection.recv())
    os._exit(1)


if __name__ == "__main__":
    _work(Connection(int(sys.argv[1])))
