"""Local clocks that change: from what such a clock showed to seconds since 1970."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

BUCKET = 900  # seconds: no zone of today changes within a quarter of an hour
FAR = 1e11  # seconds from 1970: no clock of ours will change there


class Clock:
    """One log's clock, read row after row.

    In autumn an hour is shown twice. Which of the two a row is from only the rows' order tells: the second one begins
    where the clock goes back.
    """

    def __init__(self, zone: zoneinfo.ZoneInfo):
        self._zone = zone
        self._shown, self._twice, self._second = -np.inf, False, False  # of the row before

    def utc(self, shown: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The next rows: seconds since 1970 [n], and where the clock skipped what it is said to have shown [n]."""
        buckets, places = np.unique(np.floor(shown / BUCKET), return_inverse=True)
        offsets = np.array([self._offsets(bucket * BUCKET) for bucket in buckets.tolist()]).reshape(-1, 2)[places]
        twice = offsets[:, 0] > offsets[:, 1]
        before = np.concatenate([[self._shown], shown[:-1]])
        goes_on = np.concatenate([[self._twice], twice[:-1]])
        second = np.zeros(len(shown), np.int64)
        state = self._second
        for row in np.flatnonzero(twice).tolist():  # an hour or two a year
            state = bool(goes_on[row]) and (state or shown[row] < before[row])
            second[row] = state
        self._shown, self._twice, self._second = shown[-1], bool(twice[-1]), bool(second[-1])
        return shown - offsets[np.arange(len(shown)), second], offsets[:, 0] < offsets[:, 1]

    def _offsets(self, seconds: float) -> tuple[float, float]:
        """What the clock is ahead of UTC, the first and the second time that it shows this."""
        if not abs(seconds) < FAR:  # false for NaN too
            return 0.0, 0.0
        local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        first, second = (local.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1))
        assert first is not None and second is not None
        return first.total_seconds(), second.total_seconds()
