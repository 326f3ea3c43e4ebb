"""Local clocks that change: from what such a clock showed to seconds since 1970."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from bmrl.data.episodes import STEP_TOLERANCE

BUCKET = 900  # seconds: no zone of today changes within a quarter of an hour
FAR = 1e11  # seconds from 1970: no clock of ours will change there


class Clock:
    """One log's clock, read row after row.

    In autumn an hour is shown twice. Which of the two a row is from only the rows' order tells: the second one begins
    where the clock goes back, or where it stands still, or nearly so, though a step as long as that hour went by.
    """

    def __init__(self, zone: zoneinfo.ZoneInfo, step: float):
        self._zone, self._step = zone, step
        self._shown, self._twice, self._second = -np.inf, False, False  # of the row before

    def utc(self, shown: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """The next rows, of a clock's local times.

        Returns seconds since 1970 [n]; where the clock skipped what it is said to have shown [n]; and where rows go
        back into, within or out of an hour that comes twice, so that they do not tell which of the two it is [n].
        """
        buckets, places = np.unique(np.floor(shown / BUCKET), return_inverse=True)
        offsets = np.array([self._offsets(bucket * BUCKET) for bucket in buckets.tolist()]).reshape(-1, 2)[places]
        twice = offsets[:, 0] > offsets[:, 1]
        before = np.concatenate([[self._shown], shown[:-1]])
        goes_on = np.concatenate([[self._twice], twice[:-1]])
        back = (shown < before) & (twice | goes_on)
        second = np.zeros(len(shown), np.int64)
        state = self._second
        for row in np.flatnonzero(twice).tolist():  # an hour or two a year
            state &= bool(goes_on[row])
            if not state:
                turns = bool(goes_on[row] and back[row])
                back[row] &= not turns
                overlap = float(offsets[row, 0] - offsets[row, 1])
                state = turns or self._fits_second(float(shown[row] - before[row]), overlap)
            second[row] = state
        self._shown, self._twice, self._second = shown[-1], bool(twice[-1]), bool(second[-1])
        return shown - offsets[np.arange(len(shown)), second], offsets[:, 0] < offsets[:, 1], back

    def _fits_second(self, apart: float, overlap: float) -> bool:
        """Whether a row is a step after the one before if it is from the second hour, and not if from the first."""
        wrong = abs(apart + overlap - self._step)
        return wrong <= STEP_TOLERANCE * self._step < np.inf and wrong < abs(apart - self._step)

    def _offsets(self, seconds: float) -> tuple[float, float]:
        """What the clock is ahead of UTC, the first and the second time that it shows this."""
        if not abs(seconds) < FAR:  # false for NaN too
            return 0.0, 0.0
        local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        first, second = (local.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1))
        assert first is not None and second is not None
        return first.total_seconds(), second.total_seconds()
