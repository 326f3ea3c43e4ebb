"""A study keeps the rows of finished units, goes on with the others, and never mixes configurations."""

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from bmrl import __version__
from bmrl.errors import BmrlError
from bmrl.reproduce import STUDIES, reproduce
from bmrl.reproduce.study import Ledger, Study, Unit, parse_seeds, run_study


def counting(done, fail=(), size=1):
    """A study whose units append their seed to ``done``, and break off for the seeds in ``fail``."""

    def units(scale, seeds, runs):
        def work(seed):
            if seed in fail:
                raise KeyboardInterrupt
            done.append(seed)
            return [{"seed": seed, "value": np.float32(seed) / 3, "list": np.array([1.0, np.nan]), "runs": str(runs)}]

        return [Unit(f"seed-{s}", {"scale": scale, "size": size}, lambda s=s: work(s)) for s in seeds]

    return Study(units, lambda rows, out: f"# Title\n\n{[row['seed'] for row in rows]}")


def go(study, out, seeds=(0, 1, 2), only="*", scale="smoke", runs=None):
    run_study("a study", study, scale, seeds, out, runs, only)


def test_finished_units_are_kept_and_not_done_again(tmp_path):
    done = []
    with pytest.raises(KeyboardInterrupt):
        go(counting(done, fail=[1]), tmp_path)
    assert done == [0]
    assert "# Title\n\n[0]\n" in (tmp_path / "README.md").read_text()
    go(counting(done), tmp_path)
    assert done == [0, 1, 2]
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["study"] == "a study" and data["scale"] == "smoke"
    unit = data["units"]["seed-1"]
    assert unit["rows"] == [{"seed": 1, "value": 0.33333, "list": [1.0, None], "runs": str(tmp_path / "runs")}]
    assert unit["versions"].keys() >= {"bmrl", "jax"} and unit["machine"]
    page = (tmp_path / "README.md").read_text()
    assert "[0, 1, 2]" in page and "| seed-2 | 0:0" in page


def test_a_run_is_no_place_for_a_study(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BmrlError, match="is a run: choose another --out"):
        go(counting([]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_rows_are_kept_where_bmrl_is_not_installed(tmp_path, monkeypatch):
    def of_environment(package):
        return version(package) if package != "bmrl" else pytest.fail("asked for bmrl's metadata")

    monkeypatch.setattr("bmrl.reproduce.study.version", of_environment)
    go(counting([]), tmp_path, seeds=[0])
    unit = json.loads((tmp_path / "results.json").read_text())["units"]["seed-0"]
    assert unit["versions"]["bmrl"] == __version__


@pytest.mark.parametrize(
    ("module", "program"),
    [(None, "bmrl"), ("a.module", "python -m a.module"), ("a.package.__main__", "python -m a.package")],
)
def test_a_unit_has_the_command_that_was_typed(tmp_path, monkeypatch, module, program):
    monkeypatch.setattr(sys, "argv", ["/somewhere/program", "reproduce", "a study"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", module and ModuleSpec(module, None))
    go(counting([]), tmp_path, seeds=[0])
    unit = json.loads((tmp_path / "results.json").read_text())["units"]["seed-0"]
    assert unit["command"] == f"{program} reproduce 'a study'"


def test_an_unfinished_unit_leaves_no_rows_but_its_time(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(counting([], fail=[0]), tmp_path)
    unit = json.loads((tmp_path / "results.json").read_text())["units"]["seed-0"]
    assert unit.keys() == {"config", "seconds"}


def test_units_are_chosen_by_a_pattern_and_runs_have_their_place(tmp_path):
    done = []
    go(counting(done), tmp_path / "out", only="*-[12]", runs=tmp_path / "shared")
    assert done == [1, 2]
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["units"]["seed-2"]["rows"]
    assert rows[0]["runs"] == str(tmp_path / "shared")
    with pytest.raises(BmrlError, match=r"--only 'x' fits none of the units: seed-0, seed-1, seed-2"):
        go(counting(done), tmp_path / "out", only="x")


def test_rows_of_another_configuration_are_refused(tmp_path):
    go(counting([]), tmp_path, seeds=[0])
    with pytest.raises(BmrlError, match=r"seed-0 of another configuration: size: 1 -> 2; choose another --out"):
        go(counting([], size=2), tmp_path, seeds=[0])
    with pytest.raises(BmrlError, match="scale: smoke -> laptop"):
        go(counting([]), tmp_path, scale="laptop")


def test_the_page_is_drawn_anew_when_nothing_is_left_to_do(tmp_path):
    go(counting([]), tmp_path)
    (tmp_path / "README.md").unlink()
    go(counting([]), tmp_path)
    assert (tmp_path / "README.md").exists()


def test_a_page_of_someone_else_is_not_replaced(tmp_path):
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(BmrlError, match=r"README\.md is no study's page, and would be lost: choose another --out"):
        go(counting([]), tmp_path)
    assert (tmp_path / "README.md").read_text() == "my project"
    assert not (tmp_path / "results.json").exists()


def test_damaged_results_can_be_removed_alone(tmp_path):
    go(counting([]), tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(BmrlError, match=r"results\.json is not valid JSON .*remove this file alone"):
        go(counting([]), tmp_path)
    (tmp_path / "results.json").unlink()
    go(counting([]), tmp_path)
    assert "[0, 1, 2]" in (tmp_path / "README.md").read_text()


# identity: of before HalfCheetah's logs were shared and parts of many students were cut
COMMITTED = sorted(Path("docs/results").glob("*/results.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_results_are_of_the_configurations_of_today(path, tmp_path):
    data = json.loads(path.read_text())
    ledger = Ledger(path, data["study"], data["scale"])
    units = {unit.name: unit for unit in STUDIES[data["study"]].units(data["scale"], [*range(20), 100], tmp_path)}
    assert data["units"].keys() <= units.keys()
    if path.parent.name != "gpu":  # which benchmarks.gpu_experiment made, with fewer updates
        assert all(ledger.has(units[name]) for name in data["units"])


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("7-8, 0,7", [0, 7, 8]), ("100-100", [100])]
)
def test_seeds_are_ranges_and_lists(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "4-0", "-1", "1-", "0-99999999999", "1;2", "0-2000000000", "0-8000,9000-20000"]
)
def test_what_is_no_seed_is_refused(text):
    with pytest.raises(BmrlError, match="--seeds"):
        parse_seeds(text)


def test_unknown_studies_and_scales_are_refused_with_what_there_is(tmp_path):
    with pytest.raises(BmrlError, match=r"unknown study 'figure9'; choose one of .*figure3"):
        reproduce("figure9", "smoke", "0", tmp_path, None, "*")
    with pytest.raises(BmrlError, match="unknown scale 'big'; choose one of smoke, laptop, paper"):
        reproduce("figure3", "big", "0", tmp_path, None, "*")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: [],
        lambda data: {**data, "units": []},
        lambda data: {**data, "units": {"a": 3}},
        *(
            lambda data, key=key: {**data, "units": {"a": {k: v for k, v in data["units"]["a"].items() if k != key}}}
            for key in ("config", "seconds", "command", "machine", "versions")
        ),
        lambda data: {**data, "units": {"a": {**data["units"]["a"], "rows": [3]}}},
    ],
)
def test_a_ledger_that_is_none_is_refused(tmp_path, damage):
    path = tmp_path / "results.json"
    ledger, unit = Ledger(path, "toy", "smoke"), Unit("a", {"seed": 0}, lambda: [])
    with ledger.timed(unit):
        pass
    assert Ledger(path, "toy", "smoke").rows() == []
    ledger.add(unit, [{"value": 1.0}])
    assert Ledger(path, "toy", "smoke").rows() == [{"unit": "a", "value": 1.0}]
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(BmrlError, match=r"results\.json is no study's results"):
        Ledger(path, "toy", "smoke")
