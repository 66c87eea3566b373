"""What a step takes with nothing in it, and what each decode adds, from whatever steps there were.

Least squares over ``seconds = a + b * decodes + c * prefill tokens``, older steps weighing less. Used where an engine
has never been seen nearly idle; it is not a model to plan steps with.
"""

from dataclasses import dataclass

from llmserving_api.telemetry import StepRecord

MEMORY = 0.999
ENOUGH_WEIGHT = 100.0
LEAST_SPREAD = 4.0
"""Standard deviation of the decodes below which their cost cannot be told from the constant."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of an empty step, and seconds that each decode adds."""

    idle: float
    each_decode: float


@dataclass(slots=True)
class StepCost:
    """Weighted sums of the normal equations."""

    _n: float = 0.0
    _d: float = 0.0
    _p: float = 0.0
    _dd: float = 0.0
    _dp: float = 0.0
    _pp: float = 0.0
    _t: float = 0.0
    _dt: float = 0.0
    _pt: float = 0.0

    def add(self, record: StepRecord) -> None:
        """Take in one step."""
        if not record.duration_ns or not record.decode_requests:
            return
        d, p, t = float(record.decode_requests), float(record.prefill_tokens), record.duration_ns / 1e9
        self._n = MEMORY * self._n + 1
        self._d = MEMORY * self._d + d
        self._p = MEMORY * self._p + p
        self._dd = MEMORY * self._dd + d * d
        self._dp = MEMORY * self._dp + d * p
        self._pp = MEMORY * self._pp + p * p
        self._t = MEMORY * self._t + t
        self._dt = MEMORY * self._dt + d * t
        self._pt = MEMORY * self._pt + p * t

    def fitted(self) -> Cost | None:
        """The fit; None while the steps seen do not tell the parts apart."""
        n = self._n
        if n < ENOUGH_WEIGHT:
            return None
        mean_d, mean_p, mean_t = self._d / n, self._p / n, self._t / n
        var_d, var_p = self._dd / n - mean_d**2, self._pp / n - mean_p**2
        cov_dp = self._dp / n - mean_d * mean_p
        cov_dt, cov_pt = self._dt / n - mean_d * mean_t, self._pt / n - mean_p * mean_t
        if var_d < LEAST_SPREAD**2:
            return None
        determinant = var_d * var_p - cov_dp**2
        if determinant <= 1e-6 * var_d * max(var_p, 1.0):
            b, c = cov_dt / var_d, 0.0
        else:
            b = (cov_dt * var_p - cov_pt * cov_dp) / determinant
            c = (cov_pt * var_d - cov_dt * cov_dp) / determinant
        b, c = max(0.0, b), max(0.0, c)
        constant = mean_t - b * mean_d - c * mean_p
        return Cost(constant, b) if constant > 0 else None
