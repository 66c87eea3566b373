"""Makes the script's edits with kubectl and measures how long they take to reach every engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.demo.script import Edit
from llmserving_lab.demo.settings import NAME, NAMESPACE
from llmserving_lab.demo.site import Site
from llmserving_lab.demo.watch import AgentWatch, Observation

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class MadeEdit:
    """An edit and when it took effect. Times are seconds of the monotonic clock.

    Attributes:
        edit: What was edited.
        started: When kubectl was started, as a user presses the key.
        returned: When kubectl came back.
        revision: The resource's generation from then on.
        applied: When every engine was seen to have confirmed it; None if not within `PATIENCE_SECONDS`.
        effective: When steps of every engine were seen to keep the bounds in force after it; None likewise.
    """

    edit: Edit
    started: float
    returned: float
    revision: int
    applied: float | None = None
    effective: float | None = None

    @property
    def applied_seconds(self) -> float | None:
        """From the key to the last engine's confirmation."""
        return None if self.applied is None else self.applied - self.started

    @property
    def effective_seconds(self) -> float | None:
        """From the key to steps that keep the bounds in force after the edit."""
        return None if self.effective is None else self.effective - self.started


class Editor:
    """Makes edits.

    Args:
        site: The cluster.
        watch: Sees when they arrive.
        manifest: The resource as applied; edits change it, so that `kubectl apply` finds what patches left.
        folder: Where applied manifests are written.
        on_change: Called with every edit whenever more is known of it.
    """

    def __init__(
        self,
        site: Site,
        watch: AgentWatch,
        manifest: dict[str, Any],
        folder: Path,
        on_change: Callable[[MadeEdit], None] = lambda made: None,
    ) -> None:
        self._site, self._watch, self._manifest = site, watch, manifest
        self._folder, self._on_change = folder, on_change
        self.made: list[MadeEdit] = []

    async def make(self, edit: Edit) -> None:
        """Make one edit and follow it until it is effective, or for `PATIENCE_SECONDS`.

        Raises:
            ClusterError: kubectl refused it.
        """
        self._manifest = merged(self._manifest, edit.patch)
        place = len(self.made)
        started = time.monotonic()
        revision = await self._kubectl(edit, place)
        self.made.append(MadeEdit(edit, started, time.monotonic(), revision))
        self._on_change(self.made[place])

        def arrived(latest: Mapping[str, Observation]) -> bool:
            return all((one.revision or 0) >= revision for one in latest.values())

        applied = await self._watch.until(arrived, PATIENCE_SECONDS)
        self.made[place] = replace(self.made[place], applied=applied)
        self._on_change(self.made[place])
        if applied is None:
            return
        effective = await self._watch.until(
            lambda latest: arrived(latest) and all(one.settled for one in latest.values()), PATIENCE_SECONDS
        )
        self.made[place] = replace(self.made[place], effective=effective)
        self._on_change(self.made[place])

    async def _kubectl(self, edit: Edit, place: int) -> int:
        """Send the edit; the resource's generation after it."""
        common = (f"--namespace={NAMESPACE}", "--output=jsonpath={.metadata.generation}")
        if edit.apply:
            path = self._folder / f"edit-{place + 1}.yaml"
            path.write_text(yaml.safe_dump(self._manifest, sort_keys=False))
            arguments: tuple[str, ...] = ("apply", f"--filename={path}", *common)
        else:
            arguments = ("patch", "llmserving", NAME, "--type=merge", f"--patch={json.dumps(edit.patch)}", *common)
        process = await asyncio.create_subprocess_exec(
            *self._site.kubectl_command(*arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            raise ClusterError(f"kubectl {arguments[0]} refused the edit {edit.change!r}: {err.decode().strip()}")
        return int(out)


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7386) applied: null removes, objects merge, everything else replaces."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            old = result.get(key)
            result[key] = merged(old if isinstance(old, Mapping) else {}, value)
        else:
            result[key] = value
    return result
