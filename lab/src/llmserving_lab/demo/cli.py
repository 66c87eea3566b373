"""`llmserving-lab demo`."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.demo.output import check_output
from llmserving_lab.demo.run import run_demo
from llmserving_lab.demo.settings import DemoSettings
from llmserving_lab.demo.site import own_kubeconfig
from llmserving_lab.environment import EnvironmentUnavailableError
from llmserving_lab.verbs import check_writable, write_json


def demo(
    trace: Annotated[
        Path | None,
        typer.Option(envvar="TRACE", help="CSV of the Azure shape: TIMESTAMP, ContextTokens, GeneratedTokens."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.5, max=1000, help="Mean requests per second over all engines.")] = 10.0,
    replicas: Annotated[int, typer.Option(min=1, max=4, help="Engines; each takes 2 GB of memory.")] = 2,
    output: Annotated[
        Path, typer.Option(help="Folder for report.html and result.json: new, empty, or an earlier demo's.")
    ] = Path("build/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the traffic.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file as well.")] = None,
) -> None:
    """Apply an LLMServing, send traffic, edit its SLA, and watch running engines obey.

    A real Kubernetes and real vLLM engines on a simulated GPU, on this machine, gone at the end. With KUBECONFIG set, the demo
    uses that cluster instead. Ends with a report page and one JSON file. About five minutes once everything is built.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("demo: ended by a signal; everything was taken down"))
    started = time.monotonic()
    try:
        kubeconfig = own_kubeconfig()
        check_writable("--json", json_file)
        check_output(output, json_file)
        outcome = run_demo(DemoSettings(output.resolve(), trace, rate, replicas, kubeconfig, seed))
    except (ClusterError, EnvironmentUnavailableError, ValueError) as error:
        typer.secho(f"demo: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("demo: interrupted; everything was taken down, run it again whenever you like", err=True)
        raise typer.Exit(130) from None
    write_json(json_file, outcome.result)
    requests = outcome.result["requests"]
    typer.echo(
        f"{requests['completed']} of {requests['sent']} requests completed, "
        f"edits applied within {outcome.result['edit_to_applied_p95_seconds']} s (p95), "
        f"{outcome.result['pod_restarts']} pod restarts, {time.monotonic() - started:.0f} s in all"
    )
    typer.echo(f"report: {outcome.report}\nresult: {outcome.report.with_name('result.json')}")
