"""The bench's flags: from text to the parts of a plan. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite

from llmserving_lab.bench.plan import LinkPlan, TargetPlan
from llmserving_lab.bench.policies import SEARCHES, setup_of
from llmserving_lab.device.coefficients import shipped_devices
from llmserving_lab.verbs import FlagError, names_in

PROFILE_HELP = f"a measured profile folder, a coefficient file, or one that is shipped: {', '.join(shipped_devices())}."

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}


def seconds(flag: str, text: str) -> float:
    """A time with its unit.

    Raises:
        FlagError: it is none.
    """
    time = _time(text)
    if time is None:
        raise FlagError(f"{flag} {text}: should be a time above zero with its unit, such as 50ms, 2s or 1m")
    return time


def policies(text: str) -> list[str]:
    """Policies by name.

    Raises:
        FlagError: there are none.
        PolicyError: one is not known.
    """
    names = names_in(text)
    if not names:
        raise FlagError(f"--policies {text!r}: should name at least one policy, for example default,static:256x640")
    for name in names:
        if name not in SEARCHES:
            setup_of(name)
    return names


def rates(text: str, *, has_own: bool) -> list[float | None]:
    """Rates in requests per second; None for the trace's own.

    Args:
        text: The flag.
        has_own: Whether the load has a rate of its own: a trace with its own arrivals has.

    Raises:
        FlagError: one is no rate, or the load has none of its own.
    """
    found: list[float | None] = []
    for part in text.split(","):
        if part.strip() == "own":
            if not has_own:
                raise FlagError(
                    f"--rates {text}: only a --trace with --arrivals own has a rate of its own; give a number"
                )
            found.append(None)
            continue
        try:
            rate = float(part)
        except ValueError:
            rate = 0.0
        if not isfinite(rate) or rate <= 0:
            raise FlagError(f"--rates {text}: {part!r} should be a number of requests per second above zero, or own")
        found.append(rate)
    return found


def targets(ttft: str, itl: str, percentile: int, edits: Sequence[str]) -> tuple[TargetPlan, ...]:
    """Targets from the start, and after each edit.

    Raises:
        FlagError: a time is none, or edits are not as they should be.
    """
    found = [TargetPlan(ttft=seconds("--ttft", ttft), itl=seconds("--itl", itl), percentile=percentile)]
    for edit in edits:
        at, _, changes = edit.partition(":")
        update = {"time": _time(at)}
        for change in changes.split(","):
            name, _, value = change.partition("=")
            update[name] = _time(value) if name in {"ttft", "itl", "e2e"} else None
        if None in update.values():
            raise FlagError(
                f"--sla-edit {edit}: should be TIME:ttft=…,itl=…, all times with their units, for example 60s:itl=25ms"
            )
        found.append(found[-1].model_copy(update=update))
        if found[-1].time <= found[-2].time:
            raise FlagError(f"--sla-edit {edit}: edits should come in order of time")
    return tuple(found)


def links(latency: str | None, bandwidth: float | None) -> LinkPlan | None:
    """Links between cards; None where neither flag is given.

    Raises:
        FlagError: only one is given, or one is not above zero.
    """
    if latency is None and bandwidth is None:
        return None
    if bandwidth is not None and not (isfinite(bandwidth) and bandwidth > 0):
        raise FlagError(f"--link-bandwidth {bandwidth:g}: should be a number of GB/s above zero")
    if latency is None or bandwidth is None:
        raise FlagError(
            "--link-latency and --link-bandwidth belong together, for example --link-latency 0.02ms --link-bandwidth 50"
        )
    return LinkPlan(latency_seconds=seconds("--link-latency", latency), bandwidth_bytes_per_second=bandwidth * 1e9)


def _time(text: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text.strip())
    return float(match[1]) * _UNITS[match[2]] or None if match else None
