"""Greedy outputs of a tiny random model on real CPU kernels; with the plug-in, under random live changes.

    python generate_on_cpu.py MODEL OUT.json [SOCKET]

With SOCKET the plug-in is expected there, put in by the environment alone.
"""

import contextlib
import json
import random
import sys
from functools import partial
from pathlib import Path

from vllm import LLM, SamplingParams

from llmserving_lab.serving.control import call_control
from llmserving_lab.serving.shaking import Shaken, shake_bounds

CEILINGS = {"max_num_seqs": 24, "max_num_batched_tokens": 512}


def main() -> None:
    model, out, *control = sys.argv[1:]
    chance = random.Random(1)
    prompts = [
        {"prompt_token_ids": [chance.randint(3, 300) for _ in range(chance.randint(1, 200))]} for _ in range(150)
    ]
    parameters = [
        SamplingParams(temperature=0, max_tokens=chance.randint(5, 60), ignore_eos=True, detokenize=False)
        for _ in prompts
    ]
    llm = LLM(
        model,
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        skip_tokenizer_init=True,
        async_scheduling=False,
        **CEILINGS,
    )
    call = partial(call_control, Path(control[0])) if control else None
    shaking = shake_bounds(call, **CEILINGS) if call else None
    with shaking or contextlib.nullcontext(Shaken()) as shaken:
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
    result = {
        "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        "wanted": [parameter.max_tokens for parameter in parameters],
        "changes": shaken.changes,
        "sheds": shaken.sheds,
        "state": call("GET", "/v1/runtime_config") if call else None,
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
