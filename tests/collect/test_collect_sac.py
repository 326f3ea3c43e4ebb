"""Collection by SAC: what happens where a learner diverges. What it collects, the tests of the commands show."""

import jax
import numpy as np

from bmrl.batch_rl import SAC
from bmrl.collect import CollectConfig, collect
from bmrl.data import read_batches
from bmrl.families import get_family
from bmrl.runs.metrics import Metrics


def test_a_learner_that_diverges_stays_where_it_was_and_its_batch_is_filled(tmp_path, caplog, monkeypatch):
    saved = []
    monkeypatch.setattr("bmrl.collect.sac.save_checkpoint", lambda root, step, tree: saved.append(tree["states"]))
    family = get_family("point-goal")
    sac = SAC(hidden=(8,), batch_size=8, learning_rate=1e30)
    config = CollectConfig(transitions=60, warmup=20, steps_per_train=20, sac=sac)
    metrics = Metrics(tmp_path / "metrics.csv")
    collect(family, family.train_mdps(), config, 0, tmp_path / "out", tmp_path / "checkpoints", metrics, 0.0)
    assert "collect: SAC in mdp-000 diverged; it stays as it was after 20 steps" in caplog.text
    assert [batch.size for batch in read_batches(tmp_path / "out")] == [60, 60, 60]
    assert saved and all(np.isfinite(x).all() for states in saved for x in jax.tree.leaves(states))
