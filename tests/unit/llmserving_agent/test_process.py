"""The process: supervisor with real children, settings, plug-in installation, command line."""

import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmserving_agent.__main__ import main
from llmserving_agent.plugin import ENV_PLUGIN_SOURCE, PluginError, install_plugin
from llmserving_agent.settings import Settings, SettingsError, add_flags, load_settings

SUPERVISE = """
import sys
from llmserving_agent.supervisor import supervise
command = [sys.executable, "-c", sys.argv[1]]
grace = float(sys.argv[2])
sys.exit(supervise(command, first_delay_seconds=0.05, longest_delay_seconds=0.2, grace_seconds=grace))
"""

NOTE = """
import os, sys, time, signal
notes = os.open({path!r}, os.O_WRONLY | os.O_APPEND)
def note(text):
    os.write(notes, text.encode() + b"\\n")  # a file object's buffer refuses a signal handler that interrupts a write
"""


class Supervised:
    """A supervisor in a process of its own, over a child that notes its starts and signals in a file."""

    def __init__(self, folder: Path, child: str, grace: float = 20.0) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        code = NOTE.format(path=str(self.notes)) + child
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, code, str(grace)], stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, text: str, times: int = 1) -> None:
        end = time.monotonic() + 30
        while self.notes.read_text().count(text) < times:
            assert time.monotonic() < end, self.notes.read_text()
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Supervised] = []

    def make(child: str, grace: float = 20.0) -> Supervised:
        started.append(Supervised(tmp_path, child, grace))
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def test_a_loop_that_ends_is_started_again_and_the_supervisor_stays(start: Start) -> None:
    supervised = start("note('start'); sys.exit(3)")
    supervised.wait_for("start", times=4)
    assert supervised.process.poll() is None
    assert supervised.stop() == 0


def test_a_loop_that_is_killed_is_started_again(start: Start) -> None:
    supervised = start("note(f'pid {os.getpid()}'); time.sleep(60)")
    supervised.wait_for("pid")
    os.kill(int(supervised.notes.read_text().split()[1]), signal.SIGKILL)
    supervised.wait_for("pid", times=2)
    assert supervised.stop() == 0


def test_sigterm_reaches_the_loop_and_ends_the_supervision(start: Start) -> None:
    # Short sleeps: a signal that comes just before a long one would be looked at after it.
    child = (
        "signal.signal(signal.SIGTERM, lambda *_: (note('asked'), sys.exit(0)))\nnote('start')\n"
        "while True: time.sleep(0.05)"
    )
    supervised = start(child)
    supervised.wait_for("start")
    assert supervised.stop() == 0
    assert supervised.notes.read_text() == "start\nasked\n"


def test_a_loop_that_ignores_sigterm_is_killed_after_the_grace(start: Start) -> None:
    child = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote('start')\nwhile True: time.sleep(60)"
    supervised = start(child, grace=0.3)
    supervised.wait_for("start")
    assert supervised.stop() == 0


def test_a_loop_whose_program_is_missing_does_not_end_the_supervisor(tmp_path: Path) -> None:
    code = SUPERVISE.replace("[sys.executable, ", "['/nowhere/python', ")
    process = subprocess.Popen([sys.executable, "-c", code, "", "1"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "cannot be started" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stderr.close()


def flags(*arguments: str) -> Settings:
    parser = ArgumentParser()
    add_flags(parser)
    return load_settings(parser.parse_args(arguments), {"LLMSERVING_CONTROL_DIR": "/c", "LLMSERVING_AGENT_PORT": "1"})


def test_flags_win_over_the_environment_and_both_over_defaults() -> None:
    settings = flags("--port", "2")
    assert (settings.port, settings.control_dir, settings.log_format) == (2, Path("/c"), "json")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "x"), "--port 'x': a port from 1 to 65535 is needed"),
        (("--port", "70000"), "70000"),
        (("--log-format", "xml"), "one of json, console"),
        (("--engine-metrics", "localhost"), "a URL such as"),
    ],
)
def test_a_bad_setting_is_named_with_what_would_be_right(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(SettingsError, match="--") as error:
        flags(*arguments)
    assert says in str(error.value)


def test_a_bad_setting_ends_the_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--port", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name in ("llmserving_engine", "llmserving_engine-0.1.0.dist-info"):
        (source / name).mkdir(parents=True)
    (source / "llmserving_engine" / "plugin.py").write_text("new")
    (source / "llmserving_engine" / "__pycache__").mkdir()
    (source / "llmserving_engine-0.1.0.dist-info" / "entry_points.txt").write_text("[vllm.general_plugins]")
    return source


def test_the_plug_in_is_put_where_the_engine_finds_it(tmp_path: Path, carried: Path) -> None:
    target = tmp_path / "target"
    names = install_plugin(target, {ENV_PLUGIN_SOURCE: str(carried)})
    assert names == ["llmserving_engine", "llmserving_engine-0.1.0.dist-info"]
    assert (target / "llmserving_engine" / "plugin.py").read_text() == "new"
    assert sorted(entry.name for entry in target.iterdir()) == names
    assert not (target / "llmserving_engine" / "__pycache__").exists()


def test_installing_again_replaces_the_whole_package(tmp_path: Path, carried: Path) -> None:
    target = tmp_path / "target"
    install_plugin(target, {ENV_PLUGIN_SOURCE: str(carried)})
    (target / "llmserving_engine" / "stale.py").touch()
    install_plugin(target, {ENV_PLUGIN_SOURCE: str(carried)})
    assert not (target / "llmserving_engine" / "stale.py").exists()


def test_without_a_carried_plug_in_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENV_PLUGIN_SOURCE, str(tmp_path / "nothing"))
    assert main(["install-plugin", str(tmp_path / "target")]) == 1
    assert "no plug-in package with its dist-info here" in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_an_error(tmp_path: Path, carried: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PluginError, match="file"):
        install_plugin(tmp_path / "file" / "target", {ENV_PLUGIN_SOURCE: str(carried)})


@pytest.mark.parametrize("host", ["300.1.1.1", "127.0.0.1"])
def test_where_the_loop_cannot_listen_the_flags_are_named(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ["--host", host, "--port", str(port), "--control-dir", str(tmp_path), "--policy-dir", str(tmp_path)]
        status = main(["run", *flags])

    assert status == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("llmserving-agent: ")]
    assert line.startswith(f"llmserving-agent: --host {host} --port {port}: cannot listen there: ")
