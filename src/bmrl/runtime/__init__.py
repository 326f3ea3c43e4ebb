"""An exported policy at work, with NumPy alone: no JAX, no Gymnasium, nothing that training needs.

    policy = Policy.load("policy")
    action, state = policy.predict(observation, state)
    state = policy.observe(state, observation, action, reward, next_observation)

See docs/deploying.md. Every mistake of a caller's is a `bmrl.errors.BmrlError`.
"""

from bmrl.errors import BmrlError as BmrlError
from bmrl.runtime.policy import Policy as Policy
from bmrl.runtime.state import PolicyState as PolicyState
