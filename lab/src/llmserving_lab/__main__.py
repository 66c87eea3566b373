"""``llmserving-lab``: simulated device, virtual-time bench, embedded cluster and demo in one command."""

import typer

from llmserving_lab.bench.cli import bench
from llmserving_lab.bench.suite_cli import suite
from llmserving_lab.cluster.cli import cluster_app
from llmserving_lab.demo.cli import demo
from llmserving_lab.lawplots.cli import law_plots
from llmserving_lab.record.cli import record_run
from llmserving_lab.report.cli import report
from llmserving_lab.reproductions.cli import reproduce
from llmserving_lab.validate.cli import validate
from llmserving_lab.verbs import Verbs

app = typer.Typer(
    name="llmserving-lab",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Try, measure and demonstrate LLMServing on a machine without a GPU.",
)
app.add_typer(cluster_app, name="cluster")
app.command()(demo)
app.command()(bench)
app.command()(suite)
app.command("record")(record_run)
app.command()(validate)
app.command()(report)
app.command()(reproduce)
app.command()(law_plots)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
