"""Command line of the agent. Heavy modules are imported by the verb that needs them: process 1 stays small."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from llmserving_agent.settings import SettingsError, add_flags, load_settings

DESCRIPTION = """\
Runs beside a vLLM engine and moves its batch bounds to meet the SLA of the LLMServing resource.

  supervise        what the container runs: keeps `run` alive, so that a crash never takes the pod out of service
  run              the loop itself: policy and telemetry in, bounds out, metrics and status over HTTP
  install-plugin   copies the engine plug-in into a folder (the init container's job)

Look at a running agent:
  curl localhost:9410/v1/status     policy, bounds, last decisions with their reasons, latencies, GPU
  curl localhost:9410/metrics       the same for Prometheus
  curl localhost:9410/readyz        what is missing, in words
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = ArgumentParser(
        prog="llmserving-agent", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (("run", "run the loop"), ("supervise", "keep the loop running, as process 1")):
        add_flags(verbs.add_parser(name, help=text, description=text))
    install = verbs.add_parser("install-plugin", help="copy the engine plug-in into a folder")
    install.add_argument("folder", type=Path, help="where the engine finds it: first on its PYTHONPATH")
    flags = parser.parse_args(given)
    if flags.verb == "install-plugin":
        return _install_plugin(flags.folder)
    try:
        settings = load_settings(flags)
    except SettingsError as error:
        print(f"llmserving-agent: {error}", file=sys.stderr)
        return 2
    if flags.verb == "supervise":
        from llmserving_agent.supervisor import supervise  # noqa: PLC0415

        return supervise([sys.executable, "-m", "llmserving_agent", "run", *given[1:]])
    import asyncio  # noqa: PLC0415

    from llmserving_agent.log import configure_logging  # noqa: PLC0415
    from llmserving_agent.runner import Runner  # noqa: PLC0415

    configure_logging(settings.log_format)
    try:
        asyncio.run(Runner(settings).run())
    except SettingsError as error:
        print(f"llmserving-agent: {error}", file=sys.stderr)
        return 2
    return 0


def _install_plugin(folder: Path) -> int:
    from llmserving_agent.plugin import PluginError, install_plugin  # noqa: PLC0415

    try:
        names = install_plugin(folder)
    except PluginError as error:
        print(f"llmserving-agent install-plugin: {error}", file=sys.stderr)
        return 1
    print(f"{folder}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
