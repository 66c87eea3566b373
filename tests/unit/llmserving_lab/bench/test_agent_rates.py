from llmserving_agent import runner
from llmserving_lab.bench import clock


def test_the_agent_runs_in_the_bench_at_the_rates_of_production() -> None:
    assert clock.TICK_SECONDS == runner.TICK_SECONDS
    assert clock.CONFIG_SECONDS == runner.CONFIG_SECONDS
