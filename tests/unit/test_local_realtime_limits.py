"""Rates and windows."""

from __future__ import annotations

import pytest

from jamestronic_sdk.local.realtime.limits import Rate, Window


def test_a_rate_trips_at_the_end_of_a_tick_and_clears_again() -> None:
    """Ten events in the first tick of 5 s are 2 per second; a quiet tick halves that."""
    rate = Rate(2, 5.0)
    rate.add(0.0, 10)
    assert not rate.is_over(4.9)
    assert rate.is_over(5.0)
    assert rate.is_over(9.9)
    assert not rate.is_over(10.0)


def test_a_rate_looks_back_a_minute() -> None:
    """What happened before does not count any more, also after a long silence."""
    rate = Rate(1, 5.0)
    rate.add(0.0, 1000)
    assert rate.is_over(60.0)
    assert not rate.is_over(65.0)
    rate.add(1e6, 1)
    assert not rate.is_over(1e6 + 5)


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_no_limit(now: float) -> None:
    """None is never reached."""
    rate, window = Rate(None, 5.0), Window(None, 30.0)
    for _ in range(1000):
        rate.add(now)
        assert not rate.is_over(now)
        assert window.allows(now)


def test_a_window() -> None:
    """It begins with its first call."""
    window = Window(2, 30.0)
    assert [window.allows(now) for now in (100.0, 129.0, 130.0, 130.1)] == [True, True, False, True]
