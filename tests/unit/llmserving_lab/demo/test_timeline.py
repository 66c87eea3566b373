"""Figures of a run follow from what was recorded."""

import json
from dataclasses import replace

from llmserving_api.control import Bounds
from llmserving_lab.demo.edits import MadeEdit
from llmserving_lab.demo.result import Surroundings, result
from llmserving_lab.demo.script import Edit, Script
from llmserving_lab.demo.timeline import Granted, Run, latency_course, phase_figures
from llmserving_lab.demo.watch import Observation
from llmserving_lab.traffic.record import RequestRecord

TIGHTER = Edit(10, "tighter", {}, itl_seconds=0.05, phase="tight")
SCRIPT = Script((TIGHTER,), seconds=20, ttft_seconds=1.0, itl_seconds=0.2)
STARTED = 1000.0


def request(sent: float, gap: float, outputs: int = 5) -> RequestRecord:
    first = STARTED + sent + 0.5
    times = tuple(first + gap * number for number in range(outputs))
    return RequestRecord(STARTED + sent, 100, outputs, times, times[-1])


def observation(time: float, tokens: int) -> Observation:
    bounds = Bounds(max_num_seqs=64, max_num_batched_tokens=tokens)
    return Observation(
        time=STARTED + time, asked=STARTED + time, pod="p", revision=1, mode="Auto", law="SLA", requested=bounds,
        applied=bounds, effective=bounds, itl_p95=None, running=1, waiting=0, kv_usage=0.1, reason="", message="",
        device="", gpu_source="none",
    )  # fmt: skip


RUN = Run(
    started=STARTED,
    script=SCRIPT,
    sent=3,
    records=(request(1, 0.1), request(12, 0.1), request(14, 0.01)),
    observations=(observation(2, 8192), observation(12, 512), observation(14, 1024), observation(16, 512)),
    edits=(MadeEdit(TIGHTER, STARTED + 10, STARTED + 10.2, 2, STARTED + 10.7, STARTED + 11.0),),
)
AROUND = Surroundings(
    kubernetes_version="v1.36.3",
    kubernetes_ready_seconds=5.0,
    vllm_version="0.32.0",
    device="a card",
    gpu_source="nvml",
    apply_to_ready_seconds=40.0,
    pod_restarts=0,
    pod_uids_unchanged=True,
    replicas=1,
    traffic="three requests",
    image_bytes={"agent": 1},
    steps={"cluster": 5.0},
    prometheus_targets_up=3,
)


def test_a_phase_judges_its_own_requests_by_its_own_targets() -> None:
    relaxed, tight = phase_figures(RUN)
    assert (relaxed.requests, relaxed.attainment) == (1, 1.0)
    assert (tight.requests, tight.attainment) == (2, 0.5)


def test_bounds_of_a_phase_are_the_median_of_what_was_in_force() -> None:
    relaxed, tight = phase_figures(RUN)
    assert (relaxed.max_num_batched_tokens, tight.max_num_batched_tokens) == (8192, 512)


def test_what_steps_of_a_phase_were_granted_is_their_mean() -> None:
    granted = tuple(
        Granted(STARTED + time, "p", tokens) for time, tokens in ((2.0, 900.0), (12.0, 100.0), (14.0, 300.0))
    )
    relaxed, tight = phase_figures(replace(RUN, granted=granted))
    assert (relaxed.granted_tokens, tight.granted_tokens) == (900.0, 200.0)
    document = result(replace(RUN, granted=granted), AROUND)
    assert [phase["granted_tokens_mean"] for phase in document["phases"]] == [900.0, 200.0]
    assert [phase["granted_tokens_mean"] for phase in result(RUN, AROUND)["phases"]] == [None, None]


def test_a_phase_without_traffic_has_no_figures() -> None:
    empty = Run(STARTED, SCRIPT, 0, (), (), ())
    assert [(one.requests, one.itl_p95, one.attainment) for one in phase_figures(empty)] == [(0, None, None)] * 2


def test_the_course_covers_the_run_and_is_empty_where_nothing_came() -> None:
    points = latency_course(RUN, window_seconds=2.0)
    assert [point.time for point in points] == [float(second) for second in range(1, 21)]
    assert points[7].itl_p95 is None
    assert points[2].ttft_p50 == 0.5


def test_the_result_has_the_agreed_fields_and_is_json() -> None:
    document = json.loads(json.dumps(result(RUN, AROUND)))
    assert document["kubernetes"] == {"version": "v1.36.3", "ready_seconds": 5.0}
    assert (document["engine"]["vllm_version"], document["engine"]["device"]) == ("0.32.0", "a card")
    assert document["apply_to_ready_seconds"] == 40.0
    assert document["requests"] == {"sent": 3, "completed": 3, "failed": 0}
    (edit,) = document["sla_edits"]
    assert (edit["change"], edit["kubectl_to_applied_seconds"], edit["kubectl_to_effective_seconds"]) == (
        "tighter",
        0.7,
        1.0,
    )
    assert (document["pod_restarts"], document["pod_uids_unchanged"]) == (0, True)
    assert {
        "name",
        "ttft_target_s",
        "itl_target_s",
        "ttft_p95_s",
        "itl_p95_s",
        "attainment",
        "max_num_seqs_median",
        "max_num_batched_tokens_median",
    } <= set(document["phases"][0])


def test_a_request_that_never_ended_counts_as_failed() -> None:
    document = result(Run(STARTED, SCRIPT, 4, RUN.records, (), ()), AROUND)
    assert document["requests"] == {"sent": 4, "completed": 3, "failed": 1}


def test_an_edit_that_never_arrived_spoils_the_quantile_instead_of_being_left_out() -> None:
    lost = MadeEdit(TIGHTER, STARTED + 10, STARTED + 10.2, 2)
    document = result(Run(STARTED, SCRIPT, 3, RUN.records, (), (lost,)), AROUND)
    assert document["edit_to_applied_p95_seconds"] is None
