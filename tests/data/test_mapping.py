import math
import re
from pathlib import Path

import pytest

from bmrl.data import mapping as module
from bmrl.data.mapping import Pick, read_mapping
from bmrl.errors import BmrlError
from tests.data.logs import PLAIN

DOCS = Path(__file__).parents[2] / "docs" / "own-logs.md"


def read(place, text):
    (place / "mapping.toml").write_text(text)
    return read_mapping(place / "mapping.toml")


def test_what_the_lines_say(tmp_path):
    text = PLAIN + 'low = 16\nhigh = [20, 28.5]\ninfos = ["a/v"]\ntime = "t"\nstep = "15 min"  # why\n"mdp" = "m"\n'
    mapping = read(tmp_path, text)
    assert (mapping.observations, mapping.actions, mapping.rewards) == (("s",), ("a",), "r")
    assert (mapping.low, mapping.high, mapping.infos) == ((16.0,), (20.0, 28.5), {"v": "a/v"})
    assert (mapping.step, mapping.mdp, mapping.truncations, mapping.missing) == (900.0, "m", "none", None)
    assert mapping.lines == dict(zip(mapping.said, range(2, 13), strict=True))
    assert mapping.said["high"] == [20, 28.5]
    assert mapping.at("mdp") == f"{tmp_path / 'mapping.toml'}, line 12 (mdp)"


@pytest.mark.parametrize(
    ("step", "seconds"),
    [("3", 3), ("0.5", 0.5), ('"2 h"', 7200), ('"1.5d"', 129600), ('"20 ms"', 0.02), ('"any"', math.inf)],
)
def test_steps(tmp_path, step, seconds):
    assert read(tmp_path, PLAIN + f'time = "t"\nstep = {step}').step == pytest.approx(seconds)


BAD = [
    ("", r"mapping.toml \(no line 'observations'\): add observations = "),
    (PLAIN.replace('actions = ["a"]\n', ""), r"\(no line 'actions'\): add actions"),
    (
        PLAIN.replace('terminations = "none"\n', ""),
        r"\(no line 'terminations'\): add .*\"none\" if no state is",
    ),
    (PLAIN + "x = ", r"is no TOML: Invalid value \(at .*\); a line is"),
    (PLAIN + 'reward = "x"', r"line 7 \(reward\): there is no such key; did you mean 'rewards'\?"),
    (PLAIN + "[zzz]", r"line 7 \(zzz\): there is no such key; the keys are observations, actions"),
    (PLAIN + 'low = "?"', r"line 7 \(low\) is undecided: put what holds for these logs in the place of '\?'"),
    (PLAIN + 'infos = ["?"]', r"line 7 \(infos\) is undecided"),
    (PLAIN + "low = 1", r"\(no line 'high'\): add high: low alone does not say both"),
    (
        PLAIN + 'low = "x"\nhigh = 1',
        r"line 7 \(low\): a number, or a list .*, is needed, not 'x'",
    ),
    (PLAIN + "low = nan\nhigh = 1", r"line 7 \(low\): a number"),
    (PLAIN + 'time = "t"', r"\(no line 'step'\): add step: time alone does not say how far two rows are apart"),
    (PLAIN + 'time = "t"\nstep = "soon"', r"line 8 \(step\): 'soon' is no duration; \"15 min\" is one"),
    (PLAIN + 'time = "t"\nstep = "15 years"', r"line 8 \(step\): '15 years' is no duration"),
    (PLAIN + 'time = "t"\nstep = -1', r"line 8 \(step\): -1 is no step"),
    (PLAIN + 'gaps = "cut"', r"line 7 \(gaps\): without a line 'time'"),
    (PLAIN + 'time = "t"\nstep = 1\ngaps = "fill"', r"line 9 \(gaps\): 'cut' or 'keep' is needed, not 'fill'"),
    (PLAIN + 'mdp = "m"\nfiles = "{mdp}.csv"', r"line 8 \(files\): the MDP's name comes from a column"),
    (PLAIN + 'files = "x.csv"', r"line 7 \(files\): a pattern with \{mdp\} in it"),
    (PLAIN + "mdp = 3", r"line 7 \(mdp\): a text in quotes is needed, not '3'"),
    (PLAIN + 'separator = ";;"', r"line 7 \(separator\): one character is needed"),
    (PLAIN + "skip = 0", r"line 7 \(skip\): how many lines are skipped, from 1"),
    (PLAIN + "skip = 1000001", r"line 7 \(skip\): how many lines are skipped, from 1 to 1000000, is needed"),
    (PLAIN + f"header = 1{'0' * 30}", r"line 7 \(header\): the number of a line"),
    (PLAIN + f"header = 1{'0' * 5000}", r"is no TOML: Exceeds the limit"),
    (PLAIN + "missing_as = []", r"line 7 \(missing_as\): a list of marks, as \[\"-\", -999\], is needed"),
    (PLAIN + 'missing_as = ["-", true]', r"line 7 \(missing_as\): a list of marks"),
    (PLAIN + 'missing_as = "?"', r"line 7 \(missing_as\) is undecided"),
    (PLAIN + 'thousands = "_"', r"line 7 \(thousands\): ',' or '.' or .* is needed, not '_'"),
    (PLAIN + 'thousands = "."', r"line 7 \(thousands\): '.' is the sign before decimals; say decimal as well"),
    (PLAIN + 'time = ["d", "d"]\nstep = 1', r"line 7 \(time\): a column, or those of the date and of the time"),
    (PLAIN + 'time = ["d", "t", "z"]\nstep = 1', r"line 7 \(time\): a column, or those"),
    (PLAIN + "header = 0", r"line 7 \(header\): the number of a line, from 1"),
    (PLAIN + "infos = 3", r"line 7 \(infos\): a list of columns"),
    (PLAIN + 'infos = ["Speed [m/s]"]', r"line 7 \(infos\): a name of letters, digits"),
    (PLAIN.replace('["s"]', "[]"), r"line 2 \(observations\): a list of columns"),
    (PLAIN.replace("this", "last") + 'next_observations = "n"', r"line 5 \(outcome_of\): rows with next observations"),
    (PLAIN.replace("this action", "his action"), r"line 5 \(outcome_of\): 'this action' or 'last action' is needed"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_mappings_that_are_refused(tmp_path, text, says):
    with pytest.raises(BmrlError, match=says) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_no_mapping(tmp_path):
    with pytest.raises(BmrlError, match=r"none.toml cannot be read .*'bmrl data suggest' drafts"):
        read_mapping(tmp_path / "none.toml")
    (tmp_path / "big.toml").write_bytes(bytes(module.MAX_BYTES + 1))
    with pytest.raises(BmrlError, match=r"big.toml is no mapping"):
        read_mapping(tmp_path / "big.toml")
    (tmp_path / "latin.toml").write_bytes(PLAIN.replace("s", "é").encode("latin-1"))
    with pytest.raises(BmrlError, match=r"latin.toml is no text in UTF-8"):
        read_mapping(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("spec", "picks"),
    [
        ("s1", [Pick("s1")]),
        ("s*", [Pick("s1"), Pick("s2"), Pick("s[x]")]),
        ("s1:a", [Pick("s1"), Pick("s2"), Pick("a")]),
        ("s[x]", [Pick("s[x]")]),  # a name comes before what its signs could mean
        ("a[2:5]", [Pick("a", slice(2, 5))]),
        ("a[3]", [Pick("a", slice(3, 4))]),
    ],
)
def test_columns_that_an_entry_means(tmp_path, spec, picks):
    assert read(tmp_path, PLAIN).pick("observations", spec, ["s1", "s2", "a", "s[x]"], "x.csv") == picks


@pytest.mark.parametrize("spec", ["x", "x*", "x:a", "a:s1", "x[2]", "a[2:2]"])
def test_columns_that_are_not_there(tmp_path, spec):
    with pytest.raises(BmrlError, match=r"line 2 \(observations\): .*" + re.escape(spec)):
        read(tmp_path, PLAIN).pick("observations", spec, ["s1", "s2", "a"], "x.csv")
