"""The engine-side process of the bench: takes plans on standard input, gives results on standard output, one JSON line each.

    → {"id": 7, "kind": "run", "plan": {…}}
    ← {"id": 7, "result": {…}}   or   {"id": 7, "error": "…"}

vLLM is imported once (twenty seconds); each run is a fork of this process. The end of standard input means that whoever
asked is gone: this process ends at once, and the runs under way with it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from threading import Lock
from typing import Any

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    jobs = parser.parse_args().jobs
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # vLLM prints; answers have the real standard output to themselves
    logging.disable(logging.WARNING)

    from llmserving_lab.bench import execution  # noqa: PLC0415 imports vLLM, which prints

    execution.warm_up()
    lock = Lock()

    def say(document: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(document) + "\n")

    def answer(number: int, done: Future[dict[str, Any]]) -> None:
        say(_answer(number, done))

    pool = ProcessPoolExecutor(jobs, mp_context=get_context("fork"), initializer=_quiet)
    for line in sys.stdin:
        task = json.loads(line)
        future = pool.submit(execution.execute, task["kind"], task["plan"])
        future.add_done_callback(partial(answer, task["id"]))
    os._exit(0)  # an orderly end would first work off every plan that is still queued


def _quiet() -> None:
    import torch  # noqa: PLC0415 there once vLLM is

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed parent leaves no run behind
    torch.set_num_threads(1)


def _answer(number: int, done: Future[dict[str, Any]]) -> dict[str, Any]:
    error = done.exception()
    if error is None:
        return {"id": number, "result": done.result()}
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return {"id": number, "error": text or type(error).__name__}


if __name__ == "__main__":
    main()
