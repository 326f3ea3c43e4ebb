from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmrl.data.clock import Clock


def shown(times, zone):
    """What a clock in a zone shows at times, as seconds since 1970 as if it were in UTC."""
    local = [(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=t)).astimezone(zone) for t in times]
    return np.array([time.replace(tzinfo=UTC).timestamp() for time in local])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Asia/Kathmandu", "UTC"]
    ),
    st.integers(1_600_000_000, 1_700_000_000),
    st.integers(60, 10_000),
    st.integers(1, 200),
)
def test_a_clock_read_often_enough_tells_the_time(name, start, step, cut):
    """Whichever hours come twice, and wherever the rows are divided."""
    times = start + step * np.arange(20_000_000 // step // 8, dtype=np.float64)
    zone = ZoneInfo(name)
    clock = Clock(zone, step)
    seen = shown(times.tolist()[: cut * 8], zone)
    found = [clock.utc(part) for part in np.split(seen, range(cut, len(seen), cut))]
    np.testing.assert_array_equal(np.concatenate([seconds for seconds, *_ in found]), times[: cut * 8])
    assert not any(skipped.any() or back.any() for _, skipped, back in found)


@pytest.mark.parametrize("cut", [1, 3, 12])
def test_an_hour_that_comes_twice(cut):
    """02:00 to 03:00 on 2021-10-31, every quarter of an hour."""
    start = datetime(2021, 10, 30, 23, tzinfo=UTC).timestamp()
    times = start + 900 * np.arange(12)
    zone = ZoneInfo("Europe/Vienna")
    seen = shown(times, zone)
    assert len(np.unique(seen)) == 8
    clock = Clock(zone, 900)
    found = [clock.utc(part)[0] for part in np.split(seen, range(cut, 12, cut))]
    np.testing.assert_array_equal(np.concatenate(found), times)


@pytest.mark.parametrize(("step", "kept"), [(900, False), (np.inf, False), (3600, True)])
def test_a_time_that_is_shown_twice(step, kept):
    """With a step of an hour, 02:00 after 02:00 is an hour later; with another one it is the same time again."""
    seen = shown(datetime(2021, 10, 30, 23, tzinfo=UTC).timestamp() + 3600 * np.arange(4), ZoneInfo("Europe/Vienna"))
    seconds, _, back = Clock(ZoneInfo("Europe/Vienna"), step).utc(seen)
    assert np.diff(seconds).tolist() == ([3600, 3600, 3600] if kept else [3600, 0, 7200]) and not back.any()


@pytest.mark.parametrize("minutes", [15, 60])
def test_rows_that_go_back_by_an_hour_that_comes_twice(minutes):
    times = datetime(2021, 10, 31, 3, tzinfo=UTC).timestamp() - 60 * minutes * np.arange(16)
    _, _, back = Clock(ZoneInfo("Europe/Vienna"), 60 * minutes).utc(shown(times, ZoneInfo("Europe/Vienna")))
    assert back.any()


def test_an_hour_that_is_left_out():
    shown_times = np.array([datetime(2021, 3, 28, 1 + h, m, tzinfo=UTC).timestamp() for h in range(3) for m in (0, 59)])
    _, skipped, _ = Clock(ZoneInfo("Europe/Vienna"), 900).utc(shown_times)
    assert skipped.tolist() == [False, False, True, True, False, False]


def test_times_that_no_clock_shows_are_left_to_others():
    seconds, skipped, _ = Clock(ZoneInfo("Europe/Vienna"), 900).utc(np.array([np.nan, 1e300, -1e18]))
    assert np.isnan(seconds[0]) and seconds[1:].tolist() == [1e300, -1e18] and not skipped.any()
