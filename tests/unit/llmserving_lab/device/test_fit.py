"""The fit as a command: what it prints, and what it says where it cannot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmserving_lab.device.model import load_device


def fit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmserving_lab.device.fit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_printed_is_a_coefficient_file(profile: Path, tmp_path: Path) -> None:
    file = tmp_path / "fitted.json"
    file.write_text(fit(str(profile)).stdout)
    assert json.loads(file.read_text())["source"] == f"fitted to the profile {profile.name}"
    assert load_device(str(file)).card == "NVIDIA H200"


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--help",)])
def test_without_one_folder_the_usage_is_told(arguments: tuple[str, ...]) -> None:
    finished = fit(*arguments)
    assert finished.returncode == 1
    assert finished.stderr == "usage: .venv/bin/python -m llmserving_lab.device.fit PROFILE_FOLDER > NAME.json\n"


def test_a_profile_that_is_missing_or_broken_gets_one_line(profile: Path) -> None:
    (profile / "dense.csv").write_text("layer,tokens,time_us\nmlp,1,5\nmlp,x,6\n")
    for folder, message in ((profile / "nothing", "no such profile folder"), (profile, "row 3: tokens is 'x'")):
        finished = fit(str(folder))
        assert (finished.returncode, finished.stdout) == (1, "")
        (line,) = finished.stderr.splitlines()
        assert line.startswith("fit: ")
        assert message in line
