import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_lab.device.tables import Curve, Grid

_POINTS = st.dictionaries(st.integers(1, 4096), st.floats(0, 1e6), min_size=2, max_size=20)


@given(_POINTS)
def test_a_curve_goes_through_its_points(points: dict[int, float]) -> None:
    curve = Curve.of(points)
    for size, value in points.items():
        assert curve.at(size) == pytest.approx(value, abs=1e-3)


@given(_POINTS, st.floats(0, 4096))
def test_a_curve_stays_within_its_points(points: dict[int, float], size: float) -> None:
    within = min(size, max(points))
    assert min(points.values()) - 1e-6 <= Curve.of(points).at(within) <= max(points.values()) + 1e-6


def test_a_padded_curve_takes_the_time_of_the_tile_above() -> None:
    curve = Curve.of({640: 100.0, 656: 130.0, 1024: 200.0}, padded=True)
    assert curve.at(641) == 130.0
    assert curve.at(640) == 100.0
    assert 130.0 < curve.at(800) < 200.0


def test_a_curve_is_extrapolated_along_the_upper_half_and_not_along_its_last_plateau() -> None:
    curve = Curve.of({1024: 1000.0, 2032: 2000.0, 2048: 2000.0})
    assert curve.at(4096) == pytest.approx(2000.0 + 2048 * 1000 / 1024)


@given(st.floats(0, 3000), st.floats(0, 300))
def test_a_grid_reproduces_a_bilinear_function_everywhere(x: float, y: float) -> None:
    def plane(a: float, b: float) -> float:
        return 5 + 2 * a + 3 * b + 0.5 * a * b

    grid = Grid.of(((float(a), float(b)), plane(a, b)) for a in (0, 100, 1000) for b in (0, 10, 100))
    assert grid.at(x, y) == pytest.approx(plane(x, y))


def test_a_grid_with_branches_of_different_axes_interpolates_over_what_each_has() -> None:
    grid = Grid.of(
        [((1.0, 0.0), 10.0), ((1.0, 10.0), 20.0), ((3.0, 0.0), 30.0), ((3.0, 5.0), 35.0), ((3.0, 10.0), 40.0)]
    )
    assert grid.at(2.0, 5.0) == pytest.approx(25.0)
