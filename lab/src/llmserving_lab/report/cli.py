"""`llmserving-lab report`: result files as one page of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmserving_lab.report.page import page
from llmserving_lab.report.reading import ResultFileError, read_result
from llmserving_lab.report.sections import sections
from llmserving_lab.verbs import fail


def report(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Result files of `bench --json` or `suite`.", show_default=False),
    ],
    html_file: Annotated[Path, typer.Option("--html", help="Write the page to this file.", show_default=False)],
) -> None:
    """Draw capacity, attainment and goodput against rate, and bounds over time.

    One HTML page that needs nothing else. Files with the same load, device and SLA share figures; of a policy that several of
    them measured, each file has a line of its own.

    llmserving-lab report build/bench/*.json --html bench.html
    """
    try:
        if html_file.resolve() in {path.resolve() for path in files}:
            raise ResultFileError(f"--html {html_file}: is one of the result files; name another file")
        results = [read_result(path) for path in dict.fromkeys(files)]
        found = sections(results)
        html = page(found, {word: text for one in results for word, text in one.document.definitions.items()})
        html_file.parent.mkdir(parents=True, exist_ok=True)
        html_file.write_text(html, encoding="utf-8")
    except ResultFileError as error:
        fail(error)
    except OSError as error:
        fail(f"--html {html_file}: cannot be written: {error.strerror}")
    runs = sum(len(series.runs) for section in found for series in section.series)
    typer.echo(f"{html_file}: {runs} runs in {len(found)} section{'' if len(found) == 1 else 's'}")
