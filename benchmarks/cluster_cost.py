"""What many MDPs would take on a cluster: time, storage and money, from the rates of one core and the sizes of files.

    python benchmarks/cluster_cost.py --rates docs/results/rates.json --mdps 100000 --cores 1000 --euros 0.02

RATES is JSON, {"experiment", "scale", "machine", "collect", "teach": {variant: ...}}: environment steps a core and
second, and updates of one learner a core and second, as measured where many MDPs are done at once.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from bmrl.batch_rl.teach import teacher_template
from bmrl.collect.log import empty_log
from bmrl.experiments import get_experiment
from bmrl.families import get_family
from bmrl.types import Spec

HOUR = 3600.0


def main() -> None:
    """Print a Markdown table, a row a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=Path, required=True)
    parser.add_argument("--mdps", type=int, default=100_000)
    parser.add_argument("--cores", type=int, default=1000)
    parser.add_argument("--euros", type=float, default=0.02, help="of a core for an hour")
    args = parser.parse_args()
    rates = json.loads(args.rates.read_text())
    experiment = get_experiment(rates["experiment"], rates["scale"], 0)
    family = get_family(experiment.family)
    spec, transitions = Spec(family.observation_dim, family.action_dim), experiment.collect.transitions
    # next observations are stored where an episode ends alone
    row = sum(x.nbytes for name, x in empty_log(1, 1, family).items() if name != "next_observations")
    stored = transitions * row + 4 * spec.observation_dim * transitions // family.horizon
    rows = [("collect", transitions / rates["collect"], stored)]
    for name, config in experiment.teach.items():
        shapes = jax.tree.leaves(teacher_template(config.algorithm, spec, 1))
        learner = sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in shapes)
        rows.append(
            (f"teach {name} ({type(config.algorithm).__name__})", config.updates / rates["teach"][name], learner)
        )
    print(
        f"| {args.mdps:,} MDPs | core hours | days, {args.cores:,} cores | GB kept | at {args.euros:g} € a core hour |"
    )
    print("|---|---|---|---|---|")
    for title, seconds, size in rows:
        hours = args.mdps * seconds / HOUR
        kept, price = args.mdps * size / 1e9, hours * args.euros
        print(f"| {title} | {hours:,.0f} | {hours / args.cores / 24:,.1f} | {kept:,.0f} | {price:,.0f} € |")


if __name__ == "__main__":
    main()
