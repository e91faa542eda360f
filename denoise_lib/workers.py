"""Processes that compute runs side by side. One that dies takes its own run with it and no other."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from functools import cache
from multiprocessing.connection import wait

from denoise_lib.settings import Settings


def outcomes(missing: list[Settings], jobs: int) -> Iterator[tuple[Settings, str | None]]:
    """Computes runs in ``jobs`` processes: (run, None) as each is finished, (run, what happened) as each fails.

    A process that dies, killed by hand or for want of memory, is replaced; its run is reported and not tried again.
    """
    queue = deque(missing)
    busy: dict = {}  # what a worker answers on -> the worker
    try:
        while queue or busy:
            while queue and len(busy) < jobs:
                worker = _Worker()
                busy[worker.answers] = worker
                worker.send(queue.popleft())
            for answers in wait(list(busy)):
                worker = busy[answers]
                run, failure = worker.run, worker.receive()
                if queue and not worker.has_died:
                    worker.send(queue.popleft())
                else:
                    busy.pop(answers).end()
                yield run, failure
    finally:
        for worker in busy.values():
            worker.end()


class _Worker:
    """One process, this module run as a script: it reads settings from its input and writes what happened to its output."""

    def __init__(self):
        command = [sys.executable, "-m", "denoise_lib.workers", str(os.getpid())]
        path = os.pathsep.join(filter(None, sys.path))  # it imports what this process imports
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        )
        self.answers = self.process.stdout
        self.run: Settings | None = None
        self.has_died = False

    def send(self, run: Settings) -> None:
        self.run = run
        try:
            pickle.dump(run, self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died between two runs: receive() says so

    def receive(self) -> str | None:
        try:
            return pickle.load(self.answers)
        except EOFError:
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


@cache
def follow(parent: int) -> None:
    """Ends this process soon after its parent ends, whatever ended the parent: nothing trains on unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(parent: int) -> None:
    """The worker: computes the runs that come in, until its input ends."""
    from denoise_lib.runs import compute

    follow(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anything prints is no answer
    while True:
        try:
            run = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        failure = None
        try:
            compute(run)
        except Exception:
            failure = traceback.format_exc(limit=-4)
        pickle.dump(failure, answers)
        answers.flush()


if __name__ == "__main__":
    _work(int(sys.argv[1]))
