"""Runs that are made once: equal plans share one run, and with a folder they are kept from one command to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from pydantic import BaseModel

import llmserving_agent
import llmserving_api
import llmserving_engine
import llmserving_lab
from llmserving_lab.bench.policies import setup_of

_PARTS_OF_A_RUN = ("bench", "device", "traces")
"""Packages of the lab that a run's figures come from."""

_SEARCHES = {
    "campaign",
    "cell",
    "cli",
    "definitions",
    "flags",
    "grid",
    "measurement",
    "pool",
    "slices",
    "static_at_rate",
    "static_search",
    "store",
    "suite",
    "suite_cli",
    "tables",
    "twin_search",
    "worker",
}
"""Modules of the bench that decide which runs are made, but nothing inside one."""


class Pool(Protocol):
    """Executes plans; see `EnginePool`."""

    def submit(self, kind: str, plan: BaseModel) -> Future[dict[str, Any]]:
        """Have one executed."""
        ...


class RunStore:
    """A pool that remembers. A run is known by its plan and by the code that it runs.

    Profiles and traces count by name: empty the folder after changing one in place.
    """

    def __init__(self, pool: Pool, folder: Path | None = None, *, code: Callable[[str], str] | None = None) -> None:
        """Remember the runs of a pool.

        Args:
            pool: Executes what is not known yet.
            folder: Where results are kept; None keeps them in memory only.
            code: Fingerprint of the code behind a policy; by default that of this checkout.
        """
        self._pool = pool
        self._folder = folder
        self._code = code or _codes_as_loaded()
        self._known: dict[str, Future[dict[str, Any]]] = {}
        self._lock = Lock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def submit(self, kind: str, plan: BaseModel) -> Future[dict[str, Any]]:
        """The plan's result: what is there, what is under way, or a run of its own."""
        document = plan.model_dump(mode="json")
        policy = document["run"]["policy"] if "run" in document else document["policy"]
        key = sha256(json.dumps([kind, document, self._code(policy)], sort_keys=True).encode()).hexdigest()[:32]
        with self._lock:
            if key not in self._known:
                self._known[key] = self._kept(key) or self._made(key, kind, plan)
            return self._known[key]

    def _kept(self, key: str) -> Future[dict[str, Any]] | None:
        path = self._folder / f"{key}.json" if self._folder else None
        if path is None or not path.is_file():
            return None
        future: Future[dict[str, Any]] = Future()
        future.set_result(json.loads(path.read_text(encoding="utf-8")))
        return future

    def _made(self, key: str, kind: str, plan: BaseModel) -> Future[dict[str, Any]]:
        future = self._pool.submit(kind, plan)
        if self._folder is not None:
            future.add_done_callback(partial(_keep, self._folder / f"{key}.json"))
        return future


def _keep(path: Path, done: Future[dict[str, Any]]) -> None:
    if done.exception() is None:
        part = path.with_suffix(".part")  # an interrupted command leaves no half a result
        part.write_text(json.dumps(done.result()), encoding="utf-8")
        part.replace(path)


def _codes_as_loaded() -> Callable[[str], str]:
    """Fingerprints of the sources as they are now, when the engine's processes load them, not as they may be edited later.

    Stock vLLM's own scheduler needs neither agent nor plug-in: edits of those leave its runs valid.
    """
    lab = Path(llmserving_lab.__file__).parent
    files = [file for part in _PARTS_OF_A_RUN for file in (lab / part).rglob("*") if file.stem not in _SEARCHES]
    members = [Path(str(member.__file__)).parent for member in (llmserving_api, llmserving_agent, llmserving_engine)]
    stock = _digest(files)
    ours = _digest(files + [file for member in members for file in member.rglob("*")])

    def code(policy: str) -> str:
        setup = setup_of(policy)
        return ours if setup.law or setup.planner else stock

    return code


def _digest(files: list[Path]) -> str:
    digest = sha256()
    for file in sorted(files):
        if file.is_file() and file.suffix != ".pyc":
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
