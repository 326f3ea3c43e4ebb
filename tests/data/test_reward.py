import numpy as np
import pytest

from bmrl.data.reward import load_reward
from bmrl.errors import BmrlError

S, A, N = np.arange(6.0).reshape(3, 2), np.ones((3, 1)), np.arange(6.0).reshape(3, 2) + 1


def load(place, body):
    (place / "mine.py").write_text(f"import numpy as np\n{body}\n")
    return load_reward(f"{place / 'mine.py'}:paid")


def test_a_function_of_a_file(tmp_path):
    reward = load(tmp_path, "def paid(s, a, n):\n    return s[:, 0] - 2 * a[:, 0] + n[:, 1]")
    assert reward("m", S, A, N).tolist() == [0.0, 4.0, 8.0]


def test_a_function_that_asks_for_the_mdp(tmp_path):
    reward = load(tmp_path, "def paid(s, a, n, mdp):\n    return {'m': 1, 'k': 2}[mdp] * s[:, 0]")
    assert reward("k", S, A, N).tolist() == [0, 4, 8]


def test_a_function_of_a_module():
    reward = load_reward("tests.data.test_reward:first_column")
    assert reward("m", S, A, N).tolist() == [0, 2, 4]


def first_column(s, a, n):
    return s[:, 0]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "def paid(s, a, n):\n    return s",
            r"returned shape \[3, 2\] of float64 for observations \[3, 2\], actions",
        ),
        ("def paid(s, a, n):\n    return 1.0", r"returned shape \[\] of float64 .*; \[3\] numbers are needed"),
        ("def paid(s, a, n):\n    return ['x'] * 3", r"returned shape \[3\] of <U1"),
        ("def paid(s, a, n):\n    return s[:, 7]", r"paid: IndexError: .* \(MDP m\)"),
        ("def paid(s):\n    return s", r"paid: TypeError: "),
        ("def paid(s, a, n):\n    return s[:, 0] / 0 * 0", r"returned nan in MDP m for the observation \[0.0, 1.0\]"),
        (
            "def paid(s, a, n):\n    return s[:, 1] * 1e12",
            r"returned 3000000000000.0 .*; a size of at most",
        ),
        ("import sys\ndef paid(s, a, n):\n    sys.exit(0)", r"paid: SystemExit: 0 \(MDP m\)"),
        ("paid = 3", r"is no function but int"),
        ("pay = 3", r"cannot be loaded: AttributeError"),
        ("1 / 0", r"cannot be loaded: ZeroDivisionError: division by zero"),
    ],
)
def test_functions_that_are_refused(tmp_path, body, says):
    with pytest.raises(BmrlError, match=says) as caught, np.errstate(all="ignore"):
        load(tmp_path, body)("m", S, A, N)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["", "numpy", "x.py:", "none/at/all.py:paid", "no.such.module:paid", "m.py:a.b"])
def test_names_of_no_function(spec):
    with pytest.raises(BmrlError, match="--reward"):
        load_reward(spec)
