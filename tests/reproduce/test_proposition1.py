"""Proposition 1's study: the examples by hand, what the rows say, and verdicts that follow the rows."""

import re

import numpy as np
import pytest
from PIL import Image

from bmrl.figures.proposition1 import METHODS, part
from bmrl.reproduce import reproduce
from bmrl.reproduce.proposition1 import units
from bmrl.reproduce.proposition1.examples import FAST, SLOW
from bmrl.reproduce.proposition1.page import PICTURES, page, verdicts
from bmrl.reproduce.proposition1.random_mdps import DETAIL, EXPERTISE, MDPS, SETTINGS, SHARES
from bmrl.runs.storage import read_json
from bmrl.tabular import SCHEDULES


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = []
    for unit in units("smoke", [0, 1, 2], tmp_path_factory.mktemp("runs")):
        found += [{"unit": unit.name, **row} for row in unit.work()]
    return found


# ---------------------------------------------------------------------- the examples


def test_counterexample(rows):
    fast, slow = (part(rows, "counterexample", schedule=name)[0] for name in (FAST, SLOW))
    np.testing.assert_allclose(fast["absorbing"], [10, 0])
    np.testing.assert_allclose(fast["self-loop"], [10, 9])
    np.testing.assert_allclose(fast["q"][:, -1], [10, 0])
    assert 0 < slow["q"][0, -1] < 8 and (slow["q"][1] == 0).all()


@pytest.mark.parametrize(
    ("expertise", "rewards", "taken", "believed", "earned"),
    [(1 / 3, (0.5, 0.5, 0.6), "c", 6, (6, 6)), (0.9, (1.8 / 1.9, 1.8 / 1.9, 0.6), "a1", 18 / 1.9, (10, 0))],
)
def test_worked_example(rows, expertise, rewards, taken, believed, earned):
    row = part(rows, "worked example", sweep="expertise")[0]
    k = row["points"].index(expertise)
    np.testing.assert_allclose(np.array(row["rewards"])[:, k], rewards)
    assert ["a1", "a2", "c"][row["choice"][k]] == taken
    np.testing.assert_allclose(row["belief"][k], believed)
    np.testing.assert_allclose(np.array(row["earned"])[:, k], earned)


def test_worked_example_follows_the_larger_share(rows):
    row = part(rows, "worked example", sweep="share")[0]
    expected = ["a2" if w < 0.4 else "a1" if w > 0.6 else "c" for w in row["points"]]
    assert [["a1", "a2", "c"][k] for k in row["choice"]] == expected
    np.testing.assert_allclose(np.array(row["rewards"])[0], row["points"])


# ---------------------------------------------------------------------- random MDPs


def test_q_learning_ends_at_the_corrected_limit(rows):
    limits = part(rows, "conventions")
    assert len(limits) == 3
    for row in limits:
        assert max(row["values"], row["visited"]) < 1e-8
        np.testing.assert_allclose(row["unvisited"], row["predicted"])
    for name in SCHEDULES:
        for row, limit in zip(part(rows, "convergence", schedule=name), limits, strict=True):
            assert len(row["absorbing"]) == SETTINGS["smoke"].records
            assert row["self_loop"].min() >= limit["predicted"] - 1e-6
            if name == FAST:
                assert row["absorbing"][-1] < 0.05 * limit["start"]


def test_regrets(rows):
    for method in METHODS:
        for row in part(rows, "regret", method=method):
            assert np.shape(row["regret"]) == (len(DETAIL), MDPS) and np.shape(row["mean_regret"]) == (len(EXPERTISE),)
            np.testing.assert_allclose(np.mean(row["regret"], 1), np.take(row["mean_regret"], DETAIL))
            assert method == "inferred" or np.min(row["regret"]) >= -1e-9
    own, told = (part(rows, "regret", method=method) for method in ("own", "told"))
    for x, y in zip(own, told, strict=True):
        np.testing.assert_allclose(x["mean_regret"], y["mean_regret"])
        np.testing.assert_allclose(x["overestimation"], y["overestimation"])
    for row in part(rows, "posterior"):
        right = np.array(row["right"])
        np.testing.assert_allclose(right[:, 0], 1 / MDPS)
        assert (right[:, -1] > 0.9).all()


def test_a_pool_of_one_mdp_is_that_mdps_own_batch(rows):
    for row in part(rows, "share"):
        assert len(row["first"]) == len(SHARES)
        assert row["first"][-1] < 0.3 < row["first"][0]
        assert row["others"][0] < row["others"][-1]


def test_negative_rewards_make_untried_actions_attractive(rows):
    for row in part(rows, "sign"):
        np.testing.assert_allclose(row["untried"], [0, 1])
        assert row["regret"][0] < row["regret"][1]


# ---------------------------------------------------------------------- the page


def table_verdicts(rows):
    return [line.split("|")[-2].strip() for line in verdicts(rows).splitlines()[2:]]


def test_verdicts_follow_the_rows(rows):
    assert table_verdicts(rows)[:3] == [
        "holds with a change: pairs that were never tried must end the episode",
        "holds",
        "holds",
    ]
    swapped = {"absorbing": "self_loop", "self_loop": "absorbing"}
    kept = [{swapped.get(key, key): x for key, x in row.items()} for row in rows]
    assert table_verdicts(kept)[0] == "holds"
    far = [row | {"absorbing": row["self_loop"]} if row["part"] == "convergence" else row for row in rows]
    assert table_verdicts(far)[0] == "does not hold"


def test_two_seeds_are_too_few_for_a_verdict(rows):
    assert set(table_verdicts([row for row in rows if row["unit"] != "seed-2"])) == {"too few seeds"}


def test_verdicts_need_every_seed(rows):
    other = {"pooled": "told", "told": "pooled"}
    turned = [row | {"method": other.get(row["method"], row["method"])} if "method" in row else row for row in rows]
    assert table_verdicts(turned)[1] == "does not hold: on 0 of 3 seeds"
    far = [
        row | {"absorbing": row["self_loop"]} if row["part"] == "convergence" and row["unit"] == "seed-1" else row
        for row in rows
    ]
    assert table_verdicts(far)[0] == "does not hold"
    first = [new if row["unit"] == "seed-1" else row for row, new in zip(rows, turned, strict=True)]
    assert table_verdicts(first)[1] == "does not hold: on 2 of 3 seeds"


def pictures(text):
    return re.findall(r"\]\((.*?\.png)\)", text)


def test_page_shows_every_picture(rows, tmp_path):
    text = page(rows, tmp_path)
    assert len(pictures(text)) == len(PICTURES)
    for name in pictures(text):
        with Image.open(tmp_path / name) as picture:
            picture.verify()
    assert "Not computed yet" not in text and "random MDPs of 3 seeds" in text
    assert "| near-expert: a_i in 90 % of M_i's | 0.95 | 0.95 | 0.60 | a1 | 9.47 | 10.00 | 0.00 |" in text


def test_study_of_the_examples_alone(tmp_path):
    reproduce("proposition1", "smoke", "0", tmp_path, None, "examples")
    assert list(read_json(tmp_path / "results.json")["units"]) == ["examples"]
    text = (tmp_path / "README.md").read_text()
    assert pictures(text) == ["counterexample.png", "worked-example.png"]
    assert all((tmp_path / name).exists() for name in pictures(text))
    assert "Not computed yet" in text


def test_page_without_rows(tmp_path):
    assert pictures(page([], tmp_path)) == []
