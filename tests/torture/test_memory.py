import pytest

from torture.memory import LIMIT, judged


@pytest.mark.parametrize(
    ("rate", "anonymous", "enforced", "row", "failed"),
    [
        (8.0, 500.0, True, "| teach | 10.0 | 8.0 | 80% | 500 | enforced |", False),
        (6.0, 500.0, True, "| teach | 10.0 | 6.0 | 60% | 500 | enforced |", True),
        (6.0, 500.0, False, "| teach | 10.0 | not measured | not measured | 500 | not enforced |", False),
        (10.0, LIMIT + 1.0, False, "| teach | 10.0 | not measured | not measured | 1431 | not enforced |", True),
    ],
)
def test_a_rate_counts_where_the_limit_was_enforced(rate, anonymous, enforced, row, failed):
    held = {"rate": rate, "anonymous": anonymous, "enforced": enforced}
    assert judged("teach", {"rate": 10.0, "anonymous": 0.0, "enforced": False}, held) == (row, failed)


def test_a_process_that_is_killed_has_failed_and_the_rest_is_told():
    row, failed = judged("distill", {"rate": 10.0, "anonymous": 0.0, "enforced": False}, "ended with -9")
    assert failed and row == "| distill | 10.0 | ended with -9 | none | none | enforced |"
