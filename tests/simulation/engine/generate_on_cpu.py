"""Greedy outputs of a tiny random model on real CPU kernels; with the plug-in, under random live changes.

    python generate_on_cpu.py MODEL OUT.json [SOCKET]

With SOCKET the plug-in is expected there, put in by the environment alone.
"""

import http.client
import json
import random
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams

CEILINGS = {"max_num_seqs": 24, "max_num_batched_tokens": 512}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def call(path: str, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    connection = UnixConnection(path)
    connection.request(method, "/v1/runtime_config", None if body is None else json.dumps(body))
    answer = connection.getresponse()
    document: dict[str, Any] = json.loads(answer.read())
    if answer.status != 200:
        raise AssertionError(f"{answer.status}: {document}")
    return document


def change_at_random(path: str, stop: threading.Event, changes: list[dict[str, Any]]) -> None:
    chance = random.Random(5)
    while not stop.is_set():
        cap = chance.randint(1, CEILINGS["max_num_seqs"])
        body = {
            "operation_id": len(changes) + 1,
            "max_num_seqs": cap,
            "max_num_batched_tokens": chance.choice((1, 7, 32, 64, 200, 512)),
        }
        if chance.random() < 0.3:
            body["shed_to"] = cap
        call(path, "PATCH", body)
        changes.append(body)
        time.sleep(chance.uniform(0, 0.03))


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
    changes: list[dict[str, Any]] = []
    stop = threading.Event()
    changer = None
    if control:
        changer = threading.Thread(target=change_at_random, args=(control[0], stop, changes), daemon=True)
        changer.start()
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    stop.set()
    if changer:
        changer.join()
    result = {
        "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        "wanted": [parameter.max_tokens for parameter in parameters],
        "changes": len(changes),
        "sheds": sum("shed_to" in change for change in changes),
        "state": call(control[0], "GET") if control else None,
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
