"""Owned flags against the real parser of vLLM: each exists, each spelling it takes is refused, no other flag is."""

import re

import pytest
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from llmserving_api.v1alpha1.owned import OWNED_FLAGS, EngineFlag

PARSER = make_arg_parser(FlexibleArgumentParser())
FLAGS = sorted({flag for action in PARSER._actions for flag in action.option_strings if flag.startswith("--")})
OWNED = {flag for owned in OWNED_FLAGS for flag in owned.flags}


def test_every_owned_flag_is_one_of_vllm() -> None:
    assert set(FLAGS) >= OWNED


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag not in OWNED])
def test_no_other_flag_is_refused(flag: str) -> None:
    assert EngineFlag().refusal(f"{flag}=1") is None


@pytest.mark.parametrize("flag", sorted(OWNED))
def test_what_vllm_takes_for_an_owned_flag_is_refused(flag: str) -> None:
    for end in range(3, len(flag) + 1):
        beginning = flag[:end]
        matches = {found for found in FLAGS if found.startswith(beginning)}
        taken_for = beginning if beginning in FLAGS else next(iter(matches)) if len(matches) == 1 else None
        if taken_for == flag:
            assert EngineFlag().refusal(f"{re.sub('(?<!^)(?<!^-)-', '_', beginning)}=1") is not None
