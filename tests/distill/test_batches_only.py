"""Phases 1 and 2 see batches: neither families nor parameters of MDPs. A process of its own, without them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distill import toy

from bmrl.data import write_batch

TRAINING = Path(__file__).with_name("training.py")


@pytest.fixture
def batches(tmp_path):
    """Batches as a stranger might have them: with no word about the MDPs."""
    original = toy.toys.write(tmp_path / "original", [toy.episodes(mdp) for mdp in range(3)])
    for batch in original:
        write_batch(
            tmp_path / "batches" / batch.name,
            observations=batch.observations,
            actions=batch.actions,
            rewards=batch.rewards,
            terminations=batch.terminations,
            truncations=batch.truncations,
            mdp=None,
            family=None,
            provenance={},
        )
        manifest = json.loads((tmp_path / "batches" / batch.name / "manifest.json").read_text())
        assert manifest["mdp"] is manifest["family"] is None
    return tmp_path / "batches"


def test_training_needs_neither_families_nor_their_parameters(batches, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", TRAINING, batches, tmp_path / "out"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained on 2 devices\n"
