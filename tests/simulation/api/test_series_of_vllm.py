"""Series of vLLM that the boards query, against what a real vLLM registers."""

import inspect

import pytest
from vllm.v1.metrics import loggers

from llmserving_api.series import Series
from llmserving_dashboards import vllm_series

SOURCE = inspect.getsource(loggers)


@pytest.mark.parametrize("series", vllm_series.ALL, ids=lambda series: series.name)
def test_every_series_queried_is_registered(series: Series) -> None:
    registered = series.name.removesuffix("_total") if series.kind == "counter" else series.name
    assert f'name="{registered}"' in SOURCE
