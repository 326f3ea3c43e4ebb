"""Configurations as JSON and back."""

import json

import pytest

from bmrl.config import from_json, to_json
from bmrl.errors import BmrlError
from bmrl.experiments import EXPERIMENTS, Experiment, get_experiment


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_preset_survives_json(name: str, scale: str) -> None:
    experiment = get_experiment(name, scale, seed=3)
    assert from_json(json.loads(json.dumps(to_json(experiment))), Experiment, "here") == experiment


@pytest.mark.parametrize("value", ["false", 0, None])
def test_what_is_neither_true_nor_false_is_refused(value: object) -> None:
    config = to_json(get_experiment("point-goal", "smoke", seed=0))
    config["distill"]["default"]["decay"] = value
    with pytest.raises(BmrlError, match=r"here: .*expected bool.*decay"):
        from_json(config, Experiment, "here")
