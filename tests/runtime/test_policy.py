"""What a deployed policy promises: bounds, fallbacks, a context that nothing bad enters, states that survive."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmrl.errors import BmrlError, CorruptError
from bmrl.runtime import Policy
from torture.policies import KINDS, random_policy, write_policy
from torture.runtime import attack

LOW, HIGH, FALLBACK = np.float32([0, -2]), np.float32([40, 3]), np.float32([10, 0.5])
EVERY = pytest.mark.parametrize("kind", KINDS)


def policy_of(kind, seed=0):
    return Policy(*random_policy(kind, seed), seed=seed)


def sound(rng, *n):
    """Transitions [*n, ...] as a user has them."""
    s, next_s = rng.uniform(-3, 3, (2, *n, 3))
    return s, rng.uniform(LOW, HIGH, (*n, 2)), rng.normal(size=n), next_s


def same(one, other):
    return all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


# ---------------------------------------------------------------------- acting


@EVERY
def test_many_mdps_at_once_are_as_each_alone(kind):
    policy, rng, n = policy_of(kind), np.random.default_rng(0), 300  # more than are decided for at once
    state, alone = policy.start(n), policy.start()
    for _ in range(5):
        s, a, r, next_s = sound(rng, n)
        actions, state = policy.predict(s, state)
        action, alone = policy.predict(s[7], alone)
        assert (actions.shape, action.shape, actions.dtype) == ((n, 2), (2,), np.float32)
        assert ((actions >= LOW) & (actions <= HIGH)).all() and state.reasons == ("",) * n
        np.testing.assert_allclose(actions[7], action, rtol=1e-5, atol=1e-6)
        state = policy.observe(state, s, a, r, next_s)
        alone = policy.observe(alone, s[7], a[7], r[7], next_s[7])
    np.testing.assert_allclose(policy.identity(state)[7], policy.identity(alone)[0], rtol=1e-5, atol=1e-6)
    assert len(np.unique(policy.identity(state), axis=0)) == n


def test_actions_are_in_the_user_s_units():
    description, arrays = random_policy("candidates")
    scaled = Policy(description, arrays)
    plain = Policy(description._replace(action_low=[-1.0] * 2, action_high=[1.0] * 2, fallback=[0.0] * 2), arrays)
    rng = np.random.default_rng(0)
    s, a, r, next_s = sound(rng, 50)
    one = scaled.observe(scaled.start(50), s, a, r, next_s)
    other = plain.observe(plain.start(50), s, 2 * (a - LOW) / (HIGH - LOW) - 1, r, next_s)
    np.testing.assert_allclose(one.episode, other.episode, rtol=1e-4, atol=1e-5)
    actions = plain.predict(s, other)[0]
    np.testing.assert_allclose(scaled.predict(s, one)[0], LOW + (actions + 1) / 2 * (HIGH - LOW), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scaled.unscaled(actions), LOW + (actions + 1) / 2 * (HIGH - LOW), rtol=1e-5, atol=1e-5)


@EVERY
def test_an_episode_s_start_empties_the_context_of_its_own_mdp(kind):
    policy, rng = policy_of(kind), np.random.default_rng(0)
    s, a, r, next_s = sound(rng, 2)
    state = policy.observe(policy.start(2), s, a, r, next_s)
    _, begun = policy.predict(s, state, episode_start=np.array([True, False]))
    np.testing.assert_array_equal(policy.identity(begun)[0], 0)
    np.testing.assert_array_equal(policy.identity(begun)[1], policy.identity(state)[1])
    assert (begun.steps.tolist(), begun.foretold[0]) == ([0, 1], 0)
    np.testing.assert_array_equal(policy.predict(s, begun)[0][0], policy.predict(s)[0][0])
    assert same(policy.predict(s, state, episode_start=False)[1], state)


def test_only_the_latest_count_in_a_window():
    policy, rng = policy_of("window"), np.random.default_rng(0)
    steps = [sound(rng, 1) for _ in range(5)]
    state, latest = policy.start(), policy.start()
    for step in steps:
        state = policy.observe(state, *step)
    for step in steps[-2:]:
        latest = policy.observe(latest, *step)
    np.testing.assert_allclose(policy.identity(state), policy.identity(latest))


def test_a_long_episode_counts_as_the_largest_context_of_training():
    policy, step = policy_of("value"), sound(np.random.default_rng(0), 1)
    state = policy.start()
    identities = []
    for _ in range(20):
        state = policy.observe(state, *step)
        identities.append(policy.identity(state)[0])
    assert np.abs(identities[14] - identities[15]).max() > 1e-6
    np.testing.assert_allclose(identities[15], identities[19], rtol=1e-5)


# ---------------------------------------------------------------------- bad input

BAD = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e300, 4.001, None])


@given(row=st.integers(0, 2), column=st.integers(0, 2), bad=BAD, kind=st.sampled_from(KINDS))
def test_an_observation_that_cannot_be_used_has_the_fallback_alone(row, column, bad, kind):
    policy, s = policy_of(kind), np.random.default_rng(0).uniform(-3, 3, (3, 3))
    expected, state = policy.predict(s)
    spoilt = s.tolist()
    spoilt[row][column] = bad
    actions, after = policy.predict(spoilt, state)
    np.testing.assert_array_equal(actions[row], FALLBACK)
    others = np.arange(3) != row
    np.testing.assert_array_equal(actions[others], expected[others])
    assert after.reasons[row].startswith(f"observation[{column}] is ") and sum(map(bool, after.reasons)) == 1
    assert same(after[:-1], state[:-1])


def test_what_is_masked_is_missing():
    policy, s = policy_of("value"), np.ma.masked_array(np.zeros((2, 3)), mask=[[0, 1, 0], [0, 0, 0]])
    actions, state = policy.predict(s)
    np.testing.assert_array_equal(actions[0], FALLBACK)
    assert state.reasons == ("observation[1] is nan, outside [-4, 4]", "")
    with pytest.raises(BmrlError, match="observation is an array of <U1, numbers are needed"):
        policy.predict(np.ma.masked_array(["a", "b", "c"], mask=[0, 1, 0]))


@given(part=st.integers(0, 3), bad=BAD, kind=st.sampled_from(KINDS), row=st.integers(0, 1))
def test_a_bad_transition_never_enters_the_context(part, bad, kind, row):
    policy, rng = policy_of(kind), np.random.default_rng(0)
    bad = -2.001 if part == 1 and bad == 4.001 else 10.001 if part == 2 and bad == 4.001 else bad
    state = policy.observe(policy.start(2), *sound(rng, 2))
    step = [x.tolist() for x in sound(rng, 2)]
    expected = policy.observe(state, *step)
    if part == 2:
        step[part][row] = bad
    else:
        step[part][row][1] = bad
    after = policy.observe(state, *step)
    name = ("observation", "action", "reward", "next_observation")[part]
    assert after.reasons[row].startswith(f"{name}[{0 if part == 2 else 1}] is ") and after.reasons[1 - row] == ""
    for now, before, other in zip(after[:-1], state[:-1], expected[:-1], strict=True):
        np.testing.assert_array_equal(now[row], before[row])
        np.testing.assert_array_equal(now[1 - row], other[1 - row])


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ([0.0, 0.0], r"observation has shape \[2\], \[3\] or \[n, 3\] is needed"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros((1, 1, 3)), "shape"),
        (["a", "b", "c"], "observation is an array of <U1, numbers are needed"),
        ([[1.0], [1.0, 2.0]], "observation is no array of numbers"),
        (np.zeros(3, complex), "complex128"),
        ([10**400, 0, 0], "observation is no array of numbers"),
        (None, "shape"),
    ],
)
def test_what_is_no_observation_is_an_error(observation, says):
    with pytest.raises(BmrlError, match=says):
        policy_of("value").predict(observation)


def test_calls_that_do_not_fit_are_errors():
    policy, rng = policy_of("value"), np.random.default_rng(0)
    s, a, r, next_s = sound(rng, 2)
    state = policy.start(2)
    for says, call in {
        "observations of 2 MDPs, the state has 1": lambda: policy.predict(s, policy.start(1)),
        "the state is a tuple": lambda: policy.predict(s, tuple(state)),
        "another policy's;": lambda: policy.familiar(policy_of("window").start(2)),
        "another policy's": lambda: policy.predict(s, policy_of("window").start(2)),
        r"episode_start has shape \[3\]": lambda: policy.predict(s, state, np.zeros(3, bool)),
        "2 observations, 2 actions, 3 rewards": lambda: policy.observe(state, s, a, np.zeros(3), next_s),
        "transitions of 2 MDPs, the state has 1": lambda: policy.observe(policy.start(), s, a, r, next_s),
        "reward is an array of <U1": lambda: policy.observe(state, s, a, ["1", "2"], next_s),
        "n is 0": lambda: policy.start(0),
    }.items():
        with pytest.raises(BmrlError, match=says):
            call()


def test_networks_that_overflow_fall_back():
    description, arrays = random_policy("candidates")
    # through biases: which sum of large inputs overflows depends on the order in which a machine adds them
    huge = dict.fromkeys(("value.2.bias", "statistics.values.scale", "encoder.0.bias"), 3e38)
    for name, fill in (huge | {"value.2.weight": 0, "encoder.1.weight": 9}).items():
        arrays[name] = np.full_like(arrays[name], fill)
    policy = Policy(description, arrays)
    s, a, r, next_s = sound(np.random.default_rng(0), 1)
    action, state = policy.predict(s)
    np.testing.assert_array_equal(action, [FALLBACK])
    assert state.reasons == ("Q_S has no finite value",)
    after = policy.observe(state, s, a, r, next_s)
    assert after.reasons == ("f or P has no finite output",) and same(after[:-1], state[:-1])


def test_hostile_inputs():
    counts, failures = attack(3000, each=100)
    assert failures == []
    assert all(counts[f"{call}: {what}"] > 10 for call in ("predict", "observe") for what in ("accepted", "error"))


def test_a_poisoned_context_would_be_seen(monkeypatch):
    monkeypatch.setattr("bmrl.runtime.policy.outside", lambda name, array, low, high: [""] * len(array))
    assert attack(300, each=100)[1]


# ---------------------------------------------------------------------- states


@EVERY
def test_a_state_survives_a_restart(kind):
    policy, rng = policy_of(kind), np.random.default_rng(0)
    state = policy.warm_start(*[dict(zip(LOG, sound(rng, 9), strict=True)) for _ in range(2)])
    state = policy.observe(state, *sound(rng, 2))
    _, state = policy.predict([[0, 0, np.nan]] * 2, state)
    again = policy.restore(state.to_json())
    assert same(again, state) and [x.dtype for x in again[:-1]] == [x.dtype for x in state[:-1]]
    s = sound(rng, 2)[0]
    np.testing.assert_array_equal(policy.predict(s, again)[0], policy.predict(s, state)[0])


@pytest.mark.parametrize(
    "change", [("0.0", "NaN"), ('"steps": [1', '"steps": [-1'), ("reasons", "x"), ("[1]", "[true]"), ("}", "")]
)
def test_a_damaged_state_is_refused(change):
    policy = policy_of("candidates")
    state = policy.observe(policy.start(), *sound(np.random.default_rng(0), 1))
    assert change[0] in state.to_json()
    with pytest.raises(BmrlError, match="no state of this policy"):
        policy.restore(state.to_json().replace(*change, 1))
    with pytest.raises(BmrlError, match="no state of this policy"):
        policy_of("window").restore(state.to_json())
    other = policy_of("value", seed=1)
    with pytest.raises(BmrlError, match="it is another policy's"):
        other.restore(policy_of("value").start().to_json())
    with pytest.raises(BmrlError, match="the state is another policy's"):
        other.predict(np.zeros(3), policy_of("value").start())


# ---------------------------------------------------------------------- logs

LOG = ("observations", "actions", "rewards", "next_observations")


def test_logs_are_evidence_that_an_episode_s_start_leaves():
    policy, rng = policy_of("value"), np.random.default_rng(0)
    first, second = (sound(rng, n) for n in (10, 200))
    state = policy.warm_start(*(dict(zip(LOG, log, strict=True)) for log in (first, second)))
    expected = policy.start()
    for step in zip(*first, strict=True):
        expected = policy.observe(expected, *step)
    np.testing.assert_allclose(state.logs[0], expected.episode[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.misfit[0], expected.misfit[0], rtol=1e-5)
    assert (state.logs_size.tolist(), state.foretold.tolist(), state.reasons) == ([10, 64], [9, 63], ("", ""))
    _, begun = policy.predict(first[0][:2], state, episode_start=True)
    np.testing.assert_array_equal(policy.identity(begun), policy.identity(state))
    more = policy.observe(begun, *(x[:2] for x in second))
    np.testing.assert_allclose(more.logs + more.episode, state.logs + more.episode)
    assert np.abs(policy.identity(more) - policy.identity(state)).max() > 0


def test_logs_as_a_batch_has_them():
    policy, rng = policy_of("value"), np.random.default_rng(0)
    s, a, r, next_s = sound(rng, 5)
    next_s[[0, 1, 3]] = s[[1, 2, 4]]  # two episodes, of three and two transitions
    observations = np.concatenate([s[:3], next_s[2:3], s[3:], next_s[4:]])
    ends = {"terminations": [0, 0, 1, 0, 0], "truncations": [0, 0, 0, 0, 1]}
    batch = {"observations": observations, "actions": a, "rewards": r, **ends}
    found = policy.warm_start(batch)
    assert same(found, policy.warm_start(dict(zip(LOG, (s, a, r, next_s), strict=True))))
    with pytest.raises(BmrlError, match="the last transition ends no episode"):
        policy.warm_start({**batch, "truncations": np.zeros(5)})
    for odd in ([0, 1], [0, 0, 0, 0, np.nan]):
        with pytest.raises(BmrlError, match=r"log 0: terminations and truncations of shapes .*; 5 bools each are"):
            policy.warm_start({**batch, "truncations": odd})
    with pytest.raises(BmrlError, match="5 actions, but 5 observations, not 7"):
        policy.warm_start({**batch, "observations": s})


def test_what_cannot_be_used_of_logs_is_left_out_and_told():
    policy, rng = policy_of("value"), np.random.default_rng(0)
    log = dict(zip(LOG, sound(rng, 5), strict=True))
    log["rewards"][3] = np.nan
    found = policy.warm_start(log)
    assert found.reasons == ("1 of 5 transitions left out: reward[0] is nan, outside [-10, 10]",)
    without = policy.warm_start({name: np.delete(x, 3, axis=0) for name, x in log.items()})
    assert found.logs_size == without.logs_size == 4
    np.testing.assert_allclose(found.logs, without.logs, rtol=1e-5)
    for says, bad in {
        "no transition can be used": log | {"rewards": np.full(5, np.inf)},
        "log 0 needs the arrays": {"observations": log["observations"]},
        "4 rewards, not 5": log | {"rewards": np.zeros(4)},
        "log 0: rewards is an array": log | {"rewards": ["a"] * 5},
    }.items():
        with pytest.raises(BmrlError, match=says):
            policy.warm_start(bad)


# ---------------------------------------------------------------------- files


def test_a_policy_is_loaded_and_acts_where_there_is_nothing_but_numpy(tmp_path):
    write_policy(tmp_path / "policy")
    code = (
        "import importlib.abc, sys\n"
        "class Blocker(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        top = name.partition('.')[0]\n"
        "        if top not in sys.stdlib_module_names | {'numpy', 'bmrl'}:\n"
        "            raise ModuleNotFoundError(name, name=top)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from bmrl.runtime import Policy\n"
        f"policy = Policy.load({str(tmp_path / 'policy')!r})\n"
        "print(policy.predict([0.0, 0.5, 1.0])[0].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = Policy.load(tmp_path / "policy").predict([0.0, 0.5, 1.0])[0]
    np.testing.assert_allclose(eval_list(done.stdout), expected, rtol=1e-6)


def eval_list(text):
    return [float(x) for x in text.strip().strip("[]").split(",")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fallback": [41.0, 0.0]}, "fallback above action_high"),
        ({"action_low": [0.0]}, "action_low above fallback, or more of them"),
        ({"observation_high": [1.0, float("nan"), 1.0]}, "observation_high"),
        ({"context_size": 0}, "of zero"),
        ({"labels": 1}, "'1' as labels"),
        ({"pooling": "max"}, "'max' as pooling"),
        ({"pooling": "mean"}, "'mean' as pooling"),  # which knows no train MDPs: labels ask for them
        ({"labels": False, "trials": True}, "trials, which are of train MDPs, but no labels"),
        ({"residuals": [1.0]}, "residuals"),
        ({"observation_low": [-4.0] * 4, "observation_high": [4.0] * 4}, "array 'statistics.observations.mean' is of"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change, says):
    from bmrl.runtime.description import parse

    description, arrays = random_policy("latents")
    with pytest.raises(CorruptError, match=says):
        Policy(parse({**description._asdict(), **change}), arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_that_are_missing_or_of_another_shape_are_refused(kind):
    description, arrays = random_policy(kind)
    for name in arrays:
        for others in ({}, {name: arrays[name][..., :-1]}):
            if name.startswith(("embeddings", "draws")) and others and kind != "window":
                continue  # another size of the identity, or fewer draws, may be another policy
            with pytest.raises(CorruptError, match="array"):
                Policy(description, {key: x for key, x in arrays.items() if key != name} | others)
    with pytest.raises(CorruptError, match="array 'more' belongs to no part"):
        Policy(description, {**arrays, "more": np.zeros(1, np.float32)})
