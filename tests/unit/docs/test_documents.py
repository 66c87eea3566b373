"""What documents refer to exists: documents and their headings, files, make targets, commands and flags, series."""

import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from llmserving_agent.laws.predictive.learner import ERROR_QUANTILE
from llmserving_api import series
from llmserving_engine.planning import fairness, forecast, relegation
from llmserving_engine.planning.registry import PLANNERS
from llmserving_engine.planning.settings import PredictiveSettings
from llmserving_lab.__main__ import app
from llmserving_lab.cluster.tools import GO_VERSION

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/*.md")])
MEMBERS = ("agent", "api", "charts", "crds", "docs", "engine", "lab", "manifests", "observability", "operator")
FOLDERS = (*MEMBERS, "requirements", "tests", "tools")

of_every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: str(one.relative_to(ROOT)))


def blocks(text: str) -> list[str]:
    """What stands between fences, continued lines joined."""
    return [block.replace("\\\n", " ") for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def spans(text: str) -> list[str]:
    """What stands between backticks in prose."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def code(document: Path) -> list[str]:
    """Lines and words that are code."""
    text = document.read_text(encoding="utf-8")
    return [*spans(text), *(line for block in blocks(text) for line in block.splitlines())]


def headings(document: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@of_every_document
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    for link in (one for one in links if "://" not in one):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def linked(document: Path) -> set[Path]:
    """Documents that a document links to."""
    links = re.findall(r"\]\(([^)\s#]+\.md)", document.read_text(encoding="utf-8"))
    return {(document.parent / link).resolve() for link in links if "://" not in link}


def test_every_page_is_found_by_following_links_from_the_readme() -> None:
    found: set[Path] = set()
    new = {ROOT / "README.md"}
    while new:
        found |= new
        new = {page for document in new for page in linked(document)} - found
    assert [str(page.relative_to(ROOT)) for page in DOCUMENTS if page not in found] == []


def test_the_readme_begins_with_the_smallest_sample() -> None:
    first = blocks((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    sample = (ROOT / "manifests" / "samples" / "chat.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(first) == yaml.safe_load(sample)


def test_one_version_of_vllms_image_is_shown() -> None:
    shown = {
        image
        for file in (*DOCUMENTS, *(ROOT / "manifests").rglob("*.yaml"))
        for image in re.findall(r"vllm-openai:(v[\d.]+\d)", file.read_text(encoding="utf-8"))
    }
    assert len(shown) == 1, shown


@pytest.mark.parametrize("document", ["README.md", "docs/how-to/demo.md", "docs/reference/embedded-cluster.md"])
def test_the_go_that_is_asked_for_is_told(document: str) -> None:
    told = re.findall(r"Go (1\.2[\d.]*\d) or newer", (ROOT / document).read_text(encoding="utf-8"))
    told += re.findall(
        r"^\| Go \| (1\.2[\d.]*\d) or newer", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(told) == {GO_VERSION}


def expanded(path: str) -> Iterator[str]:
    """A path with alternatives in braces, one by one."""
    parts = re.split(r"\{([^}]*)\}", path)
    yield from ("".join(chosen) for chosen in product(*(part.split(",") for part in parts)))


@of_every_document
def test_files_that_are_named_are_there(document: Path) -> None:
    named = [one for span in code(document) for one in re.findall(r"[\w./{},-]+", span) if "/" in one]
    for path in (one for name in named for one in expanded(name.rstrip(".,"))):
        first, *others = path.split("/")
        if first in FOLDERS and not any(other.isupper() and other.isalpha() for other in others):  # TOOL: any of them
            assert (ROOT / path).exists(), path


@of_every_document
def test_make_targets_that_are_named_are_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {one for line in code(document) for one in re.findall(r"(?:^|\s)make ([a-z][a-z0-9-]*)", line)}
    assert named <= targets


def commands(line: str) -> Iterator[list[str]]:
    """The arguments of each call of ``llmserving-lab`` in a line."""
    for call in re.findall(r"llmserving-lab ([^#`;|]*)", line):
        yield shlex.split(call.replace("[", "").replace("]", "").replace("…", ""))


@of_every_document
def test_commands_that_are_named_are_there_with_their_flags(document: Path) -> None:
    for words in (words for line in code(document) for words in commands(line)):
        command: Any = typer.main.get_command(app)
        path = "llmserving-lab"
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            path += f" {words[0]}"
            assert words[0] in command.commands, path
            command = command.commands[words.pop(0)]
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for word in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert word in {*flags, "--help"}, f"{path} {word}"


@of_every_document
def test_series_that_are_named_are_exported(document: Path) -> None:
    named = {
        one for line in code(document) for one in re.findall(r"llmserving_(?:agent|engine|operator)_[a-z_]+", line)
    }
    assert named <= {one.name for one in series.ALL}


def test_planners_and_their_constants_are_told_with_their_defaults() -> None:
    text = (ROOT / "docs" / "reference" / "control-api.md").read_text(encoding="utf-8")
    for name in PLANNERS:
        assert f"| `{name}` |" in text
    numbers = {one.name: one.default for one in fields(PredictiveSettings) if isinstance(one.default, float)}
    percentile = 100 * (1 - numbers.pop("itl_allowance"))
    constants = {name: value for name, value in numbers.items() if math.isfinite(value)}
    assert len(constants) >= 6
    for name, default in {"itl_percentile": percentile, **constants}.items():
        assert f"| `{name}` | {default:g} |" in text, name


def test_constants_of_the_predictive_law_are_told_as_they_are() -> None:
    text = (ROOT / "docs" / "explanation" / "laws.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE))
    settings = PredictiveSettings()
    least_and_most = f"{100 * settings.guard(0.0):g} to {100 * settings.guard(1.0):g} %"
    assert told["guard band"] == f"{100 * ERROR_QUANTILE:g} % error, {least_and_most}"
    assert told["share of the prefill rate that feasibility counts on"] == f"{settings.rate_share:g}"
    assert told["long prompts that may be given up"] == f"{100 * fairness.SHARE:g} % of the longest tenth"
    assert told["share of the missed"].startswith(f"{100 * relegation.FLOOR:g} %; from half of the rate")
    assert (relegation.START, relegation.WAIT) == (0.5, 12.0)  # "half", "twelve targets"
    assert told["room kept free"].startswith(f"{forecast.MARGIN:g} standard deviation")
