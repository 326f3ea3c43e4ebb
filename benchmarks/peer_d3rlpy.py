"""d3rlpy's BCQ as a process that takes orders: one JSON line in, one out. Runs in the peer's own environment.

    python peer_d3rlpy.py DATA.npz SETTINGS.json

{"fit": updates} answers with the seconds that they took; {"act": observations} with the greedy actions.
"""

import json
import sys
import time

import d3rlpy
import numpy as np
import structlog
import torch

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # it writes into our answers otherwise


def main() -> None:
    """See the module."""
    data = np.load(sys.argv[1])
    with open(sys.argv[2]) as file:
        settings = json.load(file)
    torch.set_num_threads(settings["threads"])
    torch.set_float32_matmul_precision(settings["precision"])
    d3rlpy.seed(settings["seed"])
    dataset = d3rlpy.dataset.MDPDataset(
        data["observations"],
        data["actions"],
        data["rewards"],
        terminals=data["terminations"].astype(np.float32),
        timeouts=data["truncations"].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )
    critic = d3rlpy.models.VectorEncoderFactory(hidden_units=settings["critic_hidden"])
    generator = d3rlpy.models.VectorEncoderFactory(hidden_units=settings["generator_hidden"])
    rate = settings["learning_rate"]
    bcq = d3rlpy.algos.BCQConfig(
        actor_learning_rate=rate,
        critic_learning_rate=rate,
        imitator_learning_rate=rate,
        actor_encoder_factory=critic,
        critic_encoder_factory=critic,
        imitator_encoder_factory=generator,
        batch_size=settings["batch_size"],
        gamma=settings["discount"],
        tau=settings["target_rate"],
        lam=settings["min_weight"],
        n_action_samples=settings["candidates"],
        action_flexibility=settings["max_perturbation"],
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(mean=data["mean"], std=data["scale"]),
        compile_graph=settings["compiled"],
    ).create(device=settings["device"])
    for line in sys.stdin:
        order = json.loads(line)
        if "fit" in order:
            began, updates = time.perf_counter(), order["fit"]
            bcq.fit(
                dataset,
                n_steps=updates,
                n_steps_per_epoch=updates,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
                show_progress=False,
            )
            answer = time.perf_counter() - began
        else:
            answer = bcq.predict(np.array(order["act"], np.float32)).tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
