"""A whole vLLM engine on the simulated device, in a process of its own: its platform is chosen when vLLM is imported.

Arguments: a JSON object {"model": folder, "asynchronous": bool, "blocks": int or null, "prompts": [[length, outputs], ...]}.
Prints a JSON object.
"""

import json
import os
import sys
from pathlib import Path

os.environ["SIMULATED_DEVICE"] = "rtxpro6000-llama-3.1-8b"
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from vllm import LLM, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.usage.usage_lib import UsageContext

from llmserving_lab.device.executor import SimulatedExecutor
from llmserving_lab.model.folder import make_model_folder


def main() -> None:
    asked = json.loads(sys.argv[1])
    make_model_folder(Path(asked["model"]))
    llm = LLM(
        model=asked["model"],
        load_format="dummy",
        enforce_eager=True,
        distributed_executor_backend=SimulatedExecutor,
        async_scheduling=asked["asynchronous"],
        num_gpu_blocks_override=asked["blocks"],
        max_model_len=4096,
        max_num_seqs=64,
        max_num_batched_tokens=1024,
        disable_log_stats=False,
    )
    config = llm.llm_engine.vllm_config
    prompts = [{"prompt_token_ids": [10 + index % 200] * length} for index, (length, _) in enumerate(asked["prompts"])]
    parameters = [SamplingParams(max_tokens=outputs, ignore_eos=True) for _, outputs in asked["prompts"]]
    answers = llm.generate(prompts, parameters, use_tqdm=False)
    tokens, seqs = EngineArgs.get_batch_defaults(1)
    counters = {metric.name: metric.value for metric in llm.get_metrics() if hasattr(metric, "value")}
    print(
        json.dumps(
            {
                "lengths": [len(answer.outputs[0].token_ids) for answer in answers],
                "text": answers[0].outputs[0].text,
                "asynchronous": config.scheduler_config.async_scheduling,
                "block_size": config.cache_config.block_size,
                "blocks": config.cache_config.num_gpu_blocks,
                "defaults": [
                    seqs[UsageContext.OPENAI_API_SERVER],
                    tokens[UsageContext.OPENAI_API_SERVER],
                ],
                "preemptions": counters["vllm:num_preemptions"],
            }
        )
    )


if __name__ == "__main__":
    main()
