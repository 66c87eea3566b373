"""Reading a planner's parameters: one clear error for the field, the value and what would be right."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmserving_engine.planning.protocol import ParameterError


def only_known(parameters: Mapping[str, Any], known: Sequence[str], where: str = "planner") -> None:
    """Refuse a parameter that is not in ``known``."""
    for name, value in parameters.items():
        if name not in known:
            raise ParameterError(f"{where}.{name}", value, f"one of {', '.join(known)}")


def whole_number(value: Any, field: str, least: int = 1) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ParameterError(field, value, f"a whole number, at least {least}")
    return value


def seconds(value: Any, field: str, most: float = 3600.0) -> float:
    """A positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise ParameterError(field, value, f"a number of seconds above 0, at most {most:g}")
    return float(value)
