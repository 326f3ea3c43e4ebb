import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from benchmarks import __main__ as command
from benchmarks.fit import slope
from benchmarks.flops import forward, input_gradient, update_flops, weight_gradient
from benchmarks.laps import steps_a_second
from bmrl.batch_rl import BCQ, SAC
from bmrl.networks import Normaliser
from bmrl.types import Spec, Transition


def test_flops_of_a_layer():
    # 10 rows through 3 x 4 and 4 x 2: 12 + 8 multiplications and additions a row
    assert forward(10, [3, 4, 2]) == 2 * 10 * (12 + 8)
    # Its gradients: of both weights, and back through the second one alone; the first needs none unless asked.
    assert weight_gradient(10, [3, 4, 2]) == 2 * 10 * (12 + 8) + 2 * 10 * 8
    assert input_gradient(10, [3, 4, 2], 1) == 2 * 10 * (4 + 8)


def contractions(jaxpr) -> int:
    """The FLOPs of all products in a program."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * int(np.prod(out)) * int(np.prod([left[axis] for axis in contracted]))
        for inner in jaxprs_in_params(equation.params):
            total += contractions(inner)
    return total


@pytest.mark.parametrize("algorithm", [BCQ(), SAC()], ids=lambda algorithm: type(algorithm).__name__)
def test_flops_are_those_of_the_program(algorithm):
    spec, n = Spec(17, 6), algorithm.batch_size
    batch = Transition(np.zeros((n, 17)), np.zeros((n, 6)), np.zeros(n), np.zeros((n, 17)), np.zeros(n, bool))
    key = jax.random.PRNGKey(0)
    state = jax.eval_shape(lambda: algorithm.init(key, spec, Normaliser.identity(17)))
    program = jax.make_jaxpr(algorithm.update)(state, batch, key).jaxpr
    # A traced program has gradients of inputs that nobody asks for, which a compiler leaves out: some columns.
    assert update_flops(algorithm, spec) == pytest.approx(contractions(program), rel=0.03)


def test_slope_is_the_exponent():
    x = np.array([1.0, 10.0, 1000.0])
    assert slope(x, 3 * x**1.5) == pytest.approx(1.5)
    assert slope(x, np.full(3, 7.0)) == pytest.approx(0.0, abs=1e-12)


DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_made_of_the_rows_that_are_kept(tmp_path):
    """And so are its pictures; nothing of them was changed by hand."""
    (tmp_path / "benchmarks").mkdir()
    for rows in (DOCS / "benchmarks").glob("*.json"):
        (tmp_path / "benchmarks" / rows.name).write_text(rows.read_text())
    command.report(tmp_path)
    assert (tmp_path / "benchmarks.md").read_text() == (DOCS / "benchmarks.md").read_text()
    pictures = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert pictures == sorted(path.name for path in (DOCS / "images").glob("benchmark-*.png"))
    assert {f"benchmark-{name}.png" for name in command.BENCHMARKS} == set(pictures)


def test_a_trial_leaves_the_pages_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "start", "--short"])
    with pytest.raises(SystemExit):
        command.main()
    assert "say with --docs where to write" in capsys.readouterr().err


def test_laps_are_between_logged_steps(tmp_path):
    paused = []

    def stage(place, metrics):
        for step in range(0, 50, 10):
            metrics.log("teach", step, {"loss": np.zeros(1)})
            metrics.log("other", step, {"loss": np.zeros(1)})

    assert len(steps_a_second(stage, "teach", 3, lambda: paused.append(1))) == 3 and len(paused) == 3
    with pytest.raises(RuntimeError, match="teach ended after 4 laps"):
        steps_a_second(stage, "teach", 5)
