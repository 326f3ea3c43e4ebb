import itertools

import pytest

from bmrl.batch_rl import teach
from torture.divergence import ALGORITHMS, inject
from torture.divergence_elsewhere import inject_collection, inject_minibatch


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_learner_that_diverges_is_rolled_back_alone(name, tmp_path):
    for failures in itertools.islice(inject(ALGORITHMS[name], tmp_path, seed=7), 8):
        assert failures == []


def test_a_pooled_learner_that_diverges_is_left_as_it_was(tmp_path):
    for failures in itertools.islice(inject(ALGORITHMS["TD3+BC"], tmp_path, seed=7, pooled=True), 3):
        assert failures == []


def test_a_learner_of_collection_that_diverges_is_rolled_back_alone(tmp_path):
    assert next(inject_collection(tmp_path, seed=7)) == []


def test_phase_2_that_diverges_leaves_nothing_that_is_not_finite(tmp_path):
    for failures in itertools.islice(inject_minibatch(tmp_path, seed=7), 4):
        assert failures == []


def test_a_roll_back_that_is_forgotten_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(teach, "unless_diverged", lambda new, old, losses: (new, losses))
    teach._programs.cache_clear()
    try:
        found = next(inject(ALGORITHMS["TD3+BC"], tmp_path, seed=7))
    finally:
        teach._programs.cache_clear()
    assert any("NaN in the result" in failure for failure in found)
