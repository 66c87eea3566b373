"""A traffic process: reads a load, writes when it begins, sends it, writes one line per request as it ends.

A process of its own, so that what it measures is not disturbed by whoever watches; the demo starts it inside the
cluster's network, where the Service's address exists.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.client import Endpoint, send_load
from llmserving_lab.traffic.record import RequestRecord

LEAD_SECONDS = 0.5
"""Between the announcement and the first request."""

CLIENT_NICENESS = -10
"""Clients have machines of their own elsewhere; here, what they measure must not wait for the processor."""


def write_load(path: Path, arrivals: list[Arrival]) -> None:
    """Write the load that a traffic process reads."""
    path.write_text(json.dumps([[one.time, one.prompt_tokens, one.output_tokens] for one in arrivals]))


def read_load(path: Path) -> list[Arrival]:
    """Read a load written by `write_load`."""
    return [Arrival(time, prompt, output) for time, prompt, output in json.loads(path.read_text())]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m llmserving_lab.traffic", description=__doc__)
    parser.add_argument("--url", required=True, help="root of the server, for example http://10.96.0.7")
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--load", required=True, type=Path, help="file written by write_load")
    parser.add_argument("--seed", type=int, default=0, help="seed of the prompts' content")
    options = parser.parse_args()

    def on_end(record: RequestRecord) -> None:
        sys.stdout.write(record.to_json() + "\n")
        sys.stdout.flush()

    endpoint = Endpoint(options.url, options.model)
    try:
        load = read_load(options.load)
    except (OSError, ValueError, TypeError) as error:
        parser.error(f"--load {options.load}: is no file that write_load wrote: {error}")
    with contextlib.suppress(PermissionError):
        os.nice(CLIENT_NICENESS)
    start = time.monotonic() + LEAD_SECONDS
    print(start, flush=True)
    asyncio.run(send_load(load, endpoint, on_end, start=start, seed=options.seed))


if __name__ == "__main__":
    main()
