"""The study of changing transitions: what its verdicts follow from, its page, and the whole of it in miniature."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from reproduce.toy import random_batches, tiny, untrained

from bmrl import pipeline
from bmrl.evaluate.rollout import Episodes
from bmrl.experiments import get_experiment
from bmrl.families import FAMILIES
from bmrl.reproduce import dynamics, reproduce

FAMILY = FAMILIES["halfcheetah-dynamics"]
MDPS = FAMILY.test_mdps()


def returns(method, variant, mean, seed=0, mdp=MDPS[0]):
    about = {"method": method, "variant": variant, "family": FAMILY.name, "mdp": mdp, "split": "test", "seed": seed}
    return {**about, "context": "episode", "returns": [mean - 1, mean + 1], "return_mean": mean}


def made_up(seed=0, time=-50, without=-55, nearest=-60, pooled=-70, early=0.05):
    """A unit's rows, the same in every MDP: by default tiMe is best, with the head, and knows its MDP early."""
    rows = []
    for key, mean in zip(dynamics.METHODS, (time, without, -40, nearest, pooled, -200), strict=True):
        rows += [returns(*key, mean + k, seed, mdp) for k, mdp in enumerate(MDPS)]
    error = {name: [0.3, 0.3, 0.2, 0.2, 0.1, early, *[0.04] * 4] for name in FAMILY.parameter_names}
    about = {"method": "identity", "family": FAMILY.name, "seed": seed, "error": error}
    return rows + [{**about, "variant": v, "mdp": mdp} for v in ("default", "reward-only") for mdp in MDPS]


def verdicts(*units):
    rows = [row for unit in units for row in unit]
    found = dynamics.verdicts(*([r for r in rows if (r["method"] == "identity") == which] for which in (False, True)))
    return found.split("\n")


def test_claims_hold_if_they_do_in_every_seed():
    acts, head, known = verdicts(made_up(0), made_up(1, time=-54, early=0.14), made_up(2, time=-52, early=0.11))
    assert "holds with a change" in acts
    assert "+8.0 (+10.0, +6.0, +8.0) against the nearest teacher, +18.0 (+20.0, +16.0, +18.0) against the poo" in acts
    assert "helps: holds.**" in head and "+3.0 (+5.0, +1.0, +3.0)" in head
    assert ": holds.**" in known and "0.30 to 0.10 of" in known
    assert all("too few seeds" in line for line in verdicts(made_up(0), made_up(1)))


@pytest.mark.parametrize(
    ("changed", "fails"),
    [({"nearest": -49}, 0), ({"pooled": -49}, 0), ({"without": -49.5}, 1), ({"early": 0.16}, 2)],
    ids=["nearest", "pooled", "head", "identity"],
)
def test_one_seed_can_refute_one_claim_alone(changed, fails):
    found = ["does not hold" in line for line in verdicts(made_up(0), made_up(1), made_up(2, **changed))]
    assert found == [k == fails for k in range(3)]


def test_decoded_errors_are_those_of_the_posterior_mean():
    """An f that is sure of train MDP 3 from the first transition on, in episodes of which some are invalid."""
    evidence, steps = np.eye(len(FAMILY.train))[3] * 100, 200
    encoder = SimpleNamespace(observe=lambda t: np.broadcast_to(evidence, (*t.rewards.shape, len(evidence))))
    mdps = [FAMILY.train_mdps()[3], MDPS[0]]
    arrays = [np.zeros((4, steps + 1, 17)), np.zeros((4, steps, 6)), np.zeros((4, steps)), np.full(4, steps)]
    episodes = Episodes(*arrays, np.array([True, False, True, True]), {}, None, None)
    own, other = dynamics.decoding_errors(SimpleNamespace(encoder=encoder), 16, FAMILY, mdps, episodes)
    train, truth = FAMILY.coordinates(FAMILY.train), FAMILY.coordinates(mdps)
    blank = np.abs(train.mean(0) - truth)  # before the first step all train MDPs are as likely
    for k, name in enumerate(FAMILY.parameter_names):
        np.testing.assert_allclose(own[name], [blank[0, k]] + [0.0] * 9, atol=1e-5)
        np.testing.assert_allclose(other[name], [blank[1, k]] + [abs(train[3, k] - truth[1, k])] * 9, atol=1e-5)


def test_a_page_of_some_units(tmp_path):
    text = dynamics.page(made_up(0) + made_up(1, time=-60), tmp_path)
    assert "halfcheetah-dynamics" in text and "## halfcheetah-velocity-dynamics" not in text
    assert "| tiMe | −55 ± 5 | −54 ± 5 | −53 ± 5 | −52 ± 5 | −53.5 ± 5 |" in text
    assert "| oracle (told) | −40 ± 0 |" in text and "A: mass 1.48×, friction 0.77×, damping 1.79×; B:" in text
    for name in ("returns", "identity"):
        assert f"]({name}-halfcheetah-dynamics.png)" in text
        with Image.open(tmp_path / f"{name}-halfcheetah-dynamics.png") as image:
            image.load()
    assert dynamics.page([], tmp_path).startswith("# Changing transitions")


def test_the_students_differ_in_the_head_alone():
    for name in dynamics.FAMILIES:
        for scale in ("smoke", "laptop", "paper"):
            experiment = get_experiment(name, scale, 0)
            default, without = experiment.distill["default"], experiment.distill["reward-only"]
            assert experiment.family == name
            assert default.predict_next and not without.predict_next
            assert replace(without, predict_next=True) == default
            # Contexts of other MDPs' batches are right only with the s' that this MDP would have given.
            assert default.context.relabel and default.reward_model.next_observations


def test_the_whole_study_in_miniature(tmp_path, monkeypatch):
    """One seed of one family with few of its MDPs, logged at random and hardly learned from."""
    few = replace(FAMILY, train=FAMILY.train[:3], test=FAMILY.test[:2])
    monkeypatch.setitem(FAMILIES, FAMILY.name, few)
    monkeypatch.setattr(dynamics, "get_experiment", tiny)
    monkeypatch.setattr(pipeline, "collect", random_batches)
    monkeypatch.setattr(pipeline, "teach", untrained)
    arguments = ("dynamics", "smoke", "0", tmp_path, None, "halfcheetah-dynamics*")
    reproduce(*arguments)
    ((name, unit),) = json.loads((tmp_path / "results.json").read_text())["units"].items()
    assert name == "halfcheetah-dynamics/seed-0"
    tests = [row for row in unit["rows"] if row["method"] != "identity"]
    found = [(r["method"], r["variant"]) for r in tests]
    assert len(found) == 2 * len(dynamics.METHODS) and set(found) == set(dynamics.METHODS)
    for key in dynamics.METHODS:
        assert [r["mdp"] for r in tests if (r["method"], r["variant"]) == key] == list(few.test_mdps())
    identities = [row for row in unit["rows"] if row["method"] == "identity"]
    assert [(r["variant"], r["mdp"]) for r in identities] == [
        (variant, mdp) for variant in ("default", "reward-only") for mdp in few.test_mdps()
    ]
    for row in identities:
        errors = np.array(list(row["error"].values()))
        assert errors.shape == (3, len(dynamics.STEPS)) and ((errors >= 0) & (errors <= 1)).all()
    page = (tmp_path / "README.md").read_text()
    assert "acts well" in page and "| nearest teacher (TD3BC) |" in page
    reproduce(*arguments)  # nothing is left to do
    assert (tmp_path / "README.md").read_text() == page
