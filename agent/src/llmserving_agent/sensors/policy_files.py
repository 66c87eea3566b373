"""The policy from two projected files: a seed for new pods and the live document; the higher revision wins.

The kubelet replaces a projected volume by switching a symlink, so a change shows as another inode or modification time
behind the same path. A document that cannot be used is named and left; the last good one stays in force.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from llmserving_agent.sensors.ports import PolicyReading
from llmserving_api.names import FILE_POLICY_LIVE, FILE_POLICY_SEED
from llmserving_api.policy import Policy

_Identity = tuple[int, int, int, int]


@dataclass(slots=True)
class _Document:
    path: Path
    identity: _Identity | None = None
    content: bytes = b""
    policy: Policy | None = None
    error: str = ""


class PolicyFiles:
    """Watches both files, at most every ``period_seconds``."""

    def __init__(self, folder: Path, period_seconds: float = 0.2) -> None:
        self._documents = [_Document(folder / FILE_POLICY_LIVE), _Document(folder / FILE_POLICY_SEED)]
        self._period_seconds = period_seconds
        self._due = float("-inf")
        self._reading = PolicyReading()

    def read(self, now: float) -> PolicyReading:
        """The policy in force; the files are looked at when the period is over."""
        if now < self._due:
            return self._reading
        self._due = now + self._period_seconds
        refused = self._reading.refused + sum([_refresh(document) for document in self._documents])
        found = [document.policy for document in self._documents if document.policy is not None]
        if self._reading.policy is not None:
            found.append(self._reading.policy)
        policy = max(found, key=lambda one: one.revision, default=None)
        errors = "; ".join(document.error for document in self._documents if document.error)
        self._reading = PolicyReading(policy=policy, error=errors, refused=refused)
        return self._reading


def _refresh(document: _Document) -> int:
    """Read one file again if it changed; 1 when its new content is refused."""
    try:
        stat = os.stat(document.path)
    except OSError:
        document.identity = None
        return 0
    identity = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if identity == document.identity:
        return 0
    try:
        content = document.path.read_bytes()
    except OSError as error:
        document.error = f"{document.path.name}: {error.strerror}"
        return 1
    document.identity = identity
    if content == document.content:
        return 0
    document.content = content
    if not content.strip():
        # An annotation that was never set is projected as an empty file.
        document.policy, document.error = None, ""
        return 0
    try:
        document.policy, document.error = Policy.model_validate_json(content), ""
    except ValidationError as error:
        document.error = f"{document.path.name}: {_first(error)}"
        return 1
    return 0


def _first(error: ValidationError) -> str:
    """The first fault of a document as one line: field, value, what would be right."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    value = "" if isinstance(fault["input"], (dict, bytes)) else f" {fault['input']!r}"
    return f"{where}{value}: {fault['msg']}{more}"
