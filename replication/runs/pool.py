"""Processes that compute runs side by side. One that dies takes its own run with it and no other."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue

from replication.runs.compute import compute
from replication.runs.settings import Settings


def outcomes(
    missing: list[Settings], jobs: int, show: Callable[[Settings], Callable], is_ready: Callable[[Settings], bool]
) -> Iterator[tuple[Settings, str | None]]:
    """Computes runs in ``jobs`` processes: (run, None) as each is finished, (run, what happened) as each fails.

    ``show(run)`` is called with (step, number of steps, validation loss) at each of its evaluation points.
    A run that is not ready, since it starts from others, waits for them.
    A process that dies, killed by hand or for want of memory, is replaced; its run is reported and not tried again.
    """
    queue = list(missing)
    busy: dict = {}  # what a worker answers on -> the worker

    def next_run() -> Settings | None:
        # With nothing under way, what a run waits for has failed: it is given out all the same, to say so.
        run = next(filter(is_ready, queue), queue[0] if queue and not busy else None)
        if run:
            queue.remove(run)
        return run

    try:
        while queue or busy:
            while len(busy) < jobs and (run := next_run()):
                worker = _Worker()
                busy[worker.answers] = worker
                worker.send(run)
            for answers in wait(list(busy)):
                worker = busy[answers]
                run, answer = worker.run, worker.receive()
                if isinstance(answer, tuple):
                    show(run)(*answer)
                    continue
                del busy[answers]
                if not worker.has_died and (following := next_run()):
                    busy[answers] = worker
                    worker.send(following)
                else:
                    worker.end()
                yield run, answer
    finally:
        for worker in busy.values():
            worker.end()


class _Worker:
    """One process, this module run as a script: it reads settings from its input and writes what happened to its
    output."""

    def __init__(self):
        command = [sys.executable, "-m", "replication.runs.pool"]
        path = os.pathsep.join(filter(None, sys.path))  # it imports what this process imports
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        )
        # Unbuffered: what a buffer held back, waiting on the pipe would not see.
        self.answers = Connection(os.dup(self.process.stdout.fileno()), writable=False)
        self.run: Settings | None = None
        self.has_died = False

    def send(self, run: Settings) -> None:
        self.run = run
        try:
            pickle.dump(run, self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died between two runs: receive() says so

    def receive(self) -> tuple | str | None:
        """Where the run is, or how it ended: None, or what happened."""
        try:
            return self.answers.recv()
        except (EOFError, OSError):  # the second in the middle of a message
            self.has_died = True
            code = self.process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            why = " (signal 9 often means that memory ran out)" if code == -signal.SIGKILL else ""
            return f"ProcessDied: its process {how}{why}"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.answers.close()


def _work() -> None:
    """The worker: computes the runs that come in and ends as soon as its input does, so that no worker outlives its
    parent, whatever ended that: nothing trains on unseen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends this one
    answers = Connection(os.dup(sys.stdout.fileno()), readable=False)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anything prints is no answer
    asked: SimpleQueue = SimpleQueue()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    while True:
        run = asked.get()
        failure = None
        try:
            compute(run, lambda *where: answers.send(where))
        except Exception:
            failure = traceback.format_exc(limit=-4)
        answers.send(failure)


def _read(asked: SimpleQueue) -> None:
    try:
        while True:
            asked.put(pickle.load(sys.stdin.buffer))
    except EOFError:
        os._exit(1)


if __name__ == "__main__":
    _work()
