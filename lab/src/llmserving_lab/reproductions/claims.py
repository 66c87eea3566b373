"""The claims, one entry each. Pure.

Tables I and II are of arXiv 2503.05248v1 (Pang, Li, Wang), section III.C; the others of arXiv 2504.11320 (Ao, Luo, Simchi-Levi, Wang).
Length distributions are not printed, only their means: log-normal ones stand in. GSM8K's questions vary by 0.35 of their mean (in
words, openai/grade-school-math); outputs are taken to vary by 0.5, and chat-like lengths by 0.8.
"""

from __future__ import annotations

from llmserving_lab.bench.plan import TargetPlan
from llmserving_lab.reproductions.measures import Measure
from llmserving_lab.reproductions.settings import AT_ONCE, FIGURE_3, RTX, STATIC, Reproduction

_D_SLA = 0.05

REPRODUCTIONS: tuple[Reproduction, ...] = (
    Reproduction(
        name="memory-gsm8k",
        law="Memory",
        claim="Table I, LLaMA-65B, 1,319 requests at once of 68.4 + 344.5 tokens (GSM8K's test set): 1,983 to 2,146 tokens/s",
        printed="8.2 %",
        setting="step time of the paper's Figure 3; 166,000 KV tokens (8 cards of 80 GB); the static cap is vLLM's of the time, 256",
        measure=Measure.THROUGHPUT,
        device=FIGURE_3,
        lengths="lognormal:68.4/0.35x344.5/0.5",
        requests=1319,
        rate=AT_ONCE,
        kv_tokens=166_000,
        policies=(STATIC, "memory:512x8192", "memory-readme:512x8192", "static:64x8192", "static:512x8192"),
    ),
    Reproduction(
        name="memory-longer",
        law="Memory",
        claim="Table I, LLaMA3-70B, requests at once of 191.0 + 381.9 tokens: 2,296 to 2,575 tokens/s",
        printed="12.2 %",
        setting="as memory-gsm8k with 1,500 instead of 3,000 requests; 433,000 KV tokens (4 cards of 80 GB)",
        measure=Measure.THROUGHPUT,
        device=FIGURE_3,
        lengths="lognormal:191/0.8x381.9/0.8",
        requests=1500,
        rate=AT_ONCE,
        kv_tokens=433_000,
        policies=(STATIC, "memory:512x8192", "static:512x8192"),
    ),
    Reproduction(
        name="memory-small-model",
        law="Memory",
        claim="Table I, PanGu-7B, 1,000 requests at once of 128 + 128 tokens: 2,305 to 2,956 tokens/s",
        printed="28.2 %",
        setting="Llama-3.1-8B on an RTX PRO 6000, its own KV capacity",
        measure=Measure.THROUGHPUT,
        device=RTX,
        lengths="fixed:128x128",
        requests=1000,
        rate=AT_ONCE,
        policies=(STATIC, "memory:512x8192", "default"),
    ),
    Reproduction(
        name="memory-overcommitted",
        law="Memory",
        claim="Section I: a cap too large for memory preempts (no figure is printed)",
        printed="none",
        setting="memory-gsm8k with 40,000 KV tokens, where about 100 requests fit and the static cap is 512",
        measure=Measure.THROUGHPUT,
        device=FIGURE_3,
        lengths="lognormal:68.4/0.35x344.5/0.5",
        requests=1319,
        rate=AT_ONCE,
        kv_tokens=40_000,
        policies=("static:512x8192", "memory:512x8192", "memory-readme:512x8192", "static:64x8192", "static:128x8192"),
    ),
    Reproduction(
        name="sla-mean",
        law="SLA",
        claim="Table II, LLaMA3-70B, 256.6 + 61.5 tokens, D_SLA 50 ms: capacity 5.4 to 6.6 requests/s",
        printed="22.2 %",
        setting="step time of the paper's Figure 3; the criterion of its Figure 4: mean time between tokens of 50 ms",
        measure=Measure.MEAN_CAPACITY,
        device=FIGURE_3,
        lengths="lognormal:256.6/0.8x61.5/0.8",
        requests=1000,
        rate=5.4,
        kv_tokens=400_000,
        targets=TargetPlan(itl=_D_SLA, percentile=50),
        policies=(STATIC, "sla:512x8192"),
    ),
    Reproduction(
        name="sla-good",
        law="SLA",
        claim="the same",
        printed="22.2 %",
        setting="Llama-3.1-8B on an RTX PRO 6000 at 40 requests per second; requests are good with 95 % of their gaps within 50 ms",
        measure=Measure.GOOD,
        device=RTX,
        lengths="lognormal:256.6/0.8x61.5/0.8",
        requests=1500,
        rate=40.0,
        targets=TargetPlan(itl=_D_SLA),
        policies=(STATIC, "sla:512x8192"),
    ),
    Reproduction(
        name="memory-sla",
        law="MemorySLA",
        claim="Table II, LLaMA3-70B with prefill and decode fused, 256.6 + 447.5 tokens, D_SLA 50 ms: capacity 3.0 to 3.8 requests/s",
        printed="26.7 %",
        setting="Llama-3.1-8B on an RTX PRO 6000 at 14 requests per second; requests are good with 95 % of their gaps within 50 ms",
        measure=Measure.GOOD,
        device=RTX,
        lengths="lognormal:256.6/0.8x447.5/0.8",
        requests=800,
        rate=14.0,
        targets=TargetPlan(itl=_D_SLA),
        policies=(STATIC, "memory-sla:512x8192", "sla:512x8192"),
    ),
    Reproduction(
        name="wait",
        law="Wait",
        claim="512 + 1,000 tokens, Poisson, 137,000 KV tokens, 4.5 requests/s: mean latency 53.8 s (vLLM), 41.7 s (Sarathi, chunk 512), "
        "32.3 s (WAIT)",
        printed="22.5 % of Sarathi's",
        setting="Llama-3.1-8B on an RTX PRO 6000, 500 requests at 6 per second, where its memory binds as the paper's does at 4.5",
        measure=Measure.LATENCY,
        device=RTX,
        lengths="fixed:512x1000",
        requests=500,
        rate=6.0,
        kv_tokens=137_000,
        policies=("static:256x512", "wait:512x8192", STATIC, "memory-readme:512x8192"),
    ),
    Reproduction(
        name="nested-wait",
        law="NestedWait",
        claim="lmsys-chat-1m, 58.6 + 147.3 tokens, Poisson: below both baselines at all rates; on a real GPU 3.6 % lower mean latency",
        printed="3.6 %",
        setting="Llama-3.1-8B on an RTX PRO 6000 with 40,000 KV tokens, 2,000 requests at 60 per second, so that memory binds; "
        "variations from the paper's medians (21 and 116)",
        measure=Measure.LATENCY,
        device=RTX,
        lengths="lognormal:58.6/2.6x147.3/0.78",
        requests=2000,
        rate=60.0,
        kv_tokens=40_000,
        policies=("static:256x512", "nested-wait:512x8192", "wait:512x8192"),
    ),
)
"""All of them, in the order of the documentation."""
