"""Phase 1 on one GPU: 29 BCQ learners in one program, beside d3rlpy's one after the other and the GPU's best product.

    python -m benchmarks.gpu --peer PYTHON --out docs/results/gpu/rates.json

PYTHON has what peer-requirements.txt names, with a PyTorch for the GPU. Both sides have the data, networks and
minibatches of HalfCheetah at the paper's sizes, and multiply at the same precision: IEEE float32, then TensorFloat-32.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks.data import HALFCHEETAH, random_replay
from benchmarks.flops import update_flops
from benchmarks.laps import seconds, steps_a_second
from benchmarks.peer import D3rlpy
from benchmarks.phase1 import teaching
from bmrl import parallel
from bmrl.batch_rl import BCQ
from bmrl.batch_rl.replay import Replay
from bmrl.runs.machine import machine_and_accelerators
from bmrl.runs.storage import write_json

PRECISIONS = {"float32": "highest", "tensorfloat32": "high"}  # JAX's names, and PyTorch's for the same
LEARNERS, TRANSITIONS, HORIZON = 29, 60_000, 200


def best_product(sizes: tuple[int, ...]) -> float:
    """FLOP/s of the best square matrix product at the precision in force."""

    def rate(n: int) -> float:
        a, times = jax.random.normal(jax.random.PRNGKey(0), (n, n)), 20
        program = jax.jit(lambda x: jax.lax.fori_loop(0, times, lambda _, y: a @ y / n**0.5, x))
        jax.block_until_ready(program(a))
        return 2.0 * n**3 * times / min(seconds(lambda: jax.block_until_ready(program(a))) for _ in range(3))

    return max(map(rate, sizes))


def ours(replay: Replay, bcq: BCQ, updates: int) -> dict[str, float]:
    """Updates a second of all learners together, and the seconds from the call to the first logged step."""
    began, seen = time.perf_counter(), []
    rates = steps_a_second(teaching(replay, bcq, updates), "teach", 3, lambda: seen.append(time.perf_counter() - began))
    return {"ours": max(rates) * len(replay), "ours_start_seconds": seen[0]}


def theirs(python: Path, replay: Replay, bcq: BCQ, device: str, precision: str, compiled: bool, updates: int) -> float:
    """Updates a second of one learner that has the device to itself."""
    with D3rlpy(python, replay.logs[:1], bcq, parallel.cores(), 0, device, precision, compiled) as peer:  # type: ignore[arg-type]
        peer.fit(20)
        return max(peer.fit(updates) for _ in range(3))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="the Python of the peer's environment")
    parser.add_argument("--device", default="cuda:0", help="PyTorch's word for the device")
    parser.add_argument("--updates", type=int, default=400_000, help="planned; some laps of a 400th are made")
    parser.add_argument("--peer-updates", type=int, default=200, help="of a lap")
    parser.add_argument("--product-sizes", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parallel.set_up_jax()
    bcq, rows = BCQ(), []
    replay = random_replay(LEARNERS, TRANSITIONS, HALFCHEETAH, HORIZON)
    for precision, torch_precision in PRECISIONS.items():
        row: dict[str, Any] = {"precision": precision, "K": LEARNERS, "flops": update_flops(bcq, HALFCHEETAH)}
        rows.append(row)
        with jax.default_matmul_precision(precision):
            row |= {"best_product": best_product(tuple(args.product_sizes)), **ours(replay, bcq, args.updates)}
        write_json(args.out, {"machine": machine_and_accelerators(), "rows": rows})
        for name, compiled in (("theirs", False), ("theirs_compiled", True)):
            try:
                row[name] = theirs(args.peer, replay, bcq, args.device, torch_precision, compiled, args.peer_updates)
            except RuntimeError as error:
                row[name] = f"failed: {str(error).strip().splitlines()[-1]}"
            write_json(args.out, {"machine": machine_and_accelerators(), "rows": rows})
        print(row, flush=True)


if __name__ == "__main__":
    main()
