"""The machine's limit: its best rate of multiplying square matrices, of XLA on all devices and of NumPy."""

from collections.abc import Callable

import jax
import numpy as np

from benchmarks.laps import seconds

SIZES = (512, 1024, 2048, 4096)
WORK = 2e10  # FLOPs a turn, at least one product a device: some tenths of a second


class Limit:
    """Takes turns with what is compared with it, and remembers the best rate of each way."""

    def __init__(self, sizes: tuple[int, ...] = SIZES):
        self.best: dict[tuple[str, int], float] = {}  # FLOP/s by library and size
        self._turns: dict[tuple[str, int], tuple[float, Callable[[], object]]] = {}
        program = jax.jit(lambda x: x @ x)
        for n in sizes:
            matrix = np.random.default_rng(0).standard_normal((n, n), np.float32)
            placed = [jax.device_put(matrix, device) for device in jax.local_devices()]
            times = max(1, int(WORK / (2 * n**3 * len(placed))))

            def xla(placed: list[jax.Array] = placed, times: int = times) -> None:
                jax.block_until_ready([program(x) for _ in range(times) for x in placed])

            def numpy(x: np.ndarray = matrix, times: int = times * len(placed)) -> None:
                for _ in range(times):
                    x @ x

            xla()  # compiles
            for library, work in (("XLA", xla), ("NumPy", numpy)):
                self._turns[library, n] = (2.0 * n**3 * times * len(placed), work)

    def turn(self) -> None:
        """Every way once."""
        for way, (flops, work) in self._turns.items():
            self.best[way] = max(self.best.get(way, 0.0), flops / seconds(work))

    @property
    def rate(self) -> float:
        """FLOP/s of the best way."""
        return max(self.best.values())
