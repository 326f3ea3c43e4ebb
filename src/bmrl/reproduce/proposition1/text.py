"""What the page of Proposition 1 says whatever the rows are: the statement, its slip, the correction, the set-up."""

INTRODUCTION = """# Proposition 1: Q-learning on a pooled batch

There are K MDPs with the same states and actions, and one batch of logged transitions of each. What if all of them
are poured into one batch B, and Q-learning runs on that? Section 3 of the paper answers: it finds the optimal values
of an MDP that exists nowhere, the one that B's relative frequencies describe, and so the policy is a bad one in each
of the MDPs that do exist. The paper calls this *MDP mis-identification*; it is the reason for tiMe.

This page states the proposition, a slip in it, a counterexample and the correction, and then measures each of its
consequences in finite MDPs, where everything else can be computed exactly: {drawn}. Wherever three numbers stand
together they are the mean over seeds and the range."""

STATEMENT = """## The proposition, as stated

> Let N(s, a, s') be the number of times that (s, a, s') appears in B, with any reward. Q-learning with Q(s, a) = 0 at
> the start and the update
>
> Q(s, a) ← (1 − α_t) Q(s, a) + α_t (r + γ max_a' Q(s', a')),
>
> where (s, a, r, s') is drawn uniformly from B at every step t, converges almost surely to the optimal Q of the MDP
> (S, A, T^, R^, γ) if α_t ≥ 0, Σ α_t = ∞ and Σ α_t² < ∞, where
>
> - T^(s, a, s') = N(s, a, s') / Σ_s'' N(s, a, s'') if (s, a) appears in B, **or else 1 if s' = s and 0 otherwise**;
> - R^(s, a, s') is the mean reward of the transitions (s, a, s') in B, or 0 if there are none.

## The slip

The proof (appendix A.1) begins: where (s, a) does not appear in B, "the initial Q(s, a) is already optimal and will
never be updated". That it is never updated is true. That it is optimal is not: the statement's T^ leads from such a
pair *back to s* with reward 0, and from s the agent goes on, one step later. So Q*(s, a) = γ V*(s) there, which is 0
only where V*(s) = 0.

## A counterexample

One state, two actions, γ = 0.9. The batch holds a0 alone, with reward 1. Q(a0) goes to 1 / (1 − γ) = 10, and Q(a1)
stays 0. The statement's MDP has Q* = (10, γ 10) = (10, 9): after a1 comes the same state, in which a0 pays 1 for
ever."""

CORRECTION = """## The correction

> **Proposition 1, corrected.** As above, but a pair (s, a) that does not appear in B leads to an *absorbing state
> that pays nothing*: it ends the episode. Then Q-learning converges almost surely to the optimal Q of that MDP, at
> every pair.

*Proof.* (1) A pair that B lacks is never updated and stays 0, which is its optimal value, since nothing is paid after
it. (2) Every other pair is drawn with probability p = N(s, a) / |B| at each step, whatever came before. Write 1_t for
"drawn at t". Σ α_t (1_t − p) is a martingale of variance at most Σ α_t² < ∞, so it converges, and the step sizes that
the pair really gets sum to p Σ α_t plus something finite, which is ∞; their squares sum to less than Σ α_t². (3)
Given that (s, a) is drawn, (r, s') is one of its logged transitions, each equally likely, so the target r + γ max_a'
Q(s', a') has the mean Σ_s' T^(s, a, s') (R^(s, a, s') + γ max_a' Q(s', a')): the corrected MDP's Bellman operator, a
contraction in the sup norm, in which the entries of (1) are the constant 0. (4) With (1) to (3) the convergence
theorem of Q-learning applies (Watkins and Dayan, 1992; Jaakkola, Jordan and Singh, 1994; Tsitsiklis, 1994). ∎

**What the slip leaves unharmed.** *V\\*, the optimal values of all visited pairs and the set of greedy actions are
the same under both conventions; only untried entries differ, by γ V\\*(s).* Proof: let Q and V be optimal with
absorbing pairs, and raise every untried entry from 0 to γ V(s). A state with an untried action has V(s) ≥ 0, so γ
V(s) ≤ V(s), with equality only where V(s) = 0 and nothing was raised. No maximum and no maximiser has changed, so the
new table solves the Bellman equation of the MDP with self-loops, which has one solution. ∎ The paper's conclusion,
that Q-learning finds the policy of the wrong MDP, thus stands.

The same argument tells what a start other than 0 does: an untried pair keeps its first value for good, as if it paid
that much once and ended the episode."""

CONVERGENCE = """## Q-learning beside both limits

The pool of three random MDPs whose batches lack three of the 18 pairs. Every schedule reads the same transitions, and
t counts all updates, as in the proposition."""

RATES = """\
The conditions promise a limit and no speed. α = 1 / (1 + t) meets them, and is still {slow} % of the first error away
at the end: the error of a pair that makes up the part p of the batch shrinks about as t^(−p (1 − γ)) (compare
Even-Dar and Mansour, 2003). The same schedule a thousand times as slow in its fall has {fast} % left. Of those that
break the conditions, the constant one comes close and then moves with the noise of the drawn transitions as far as
its size lets it; the one whose sum is finite freezes on the way. No schedule comes closer to Q* as stated than γ max
V*, over the states that have an untried action."""

WORKED_EXAMPLE = """## What the wrong MDP costs: an example to do by hand

One state, three actions, γ = 0.9. M1 pays (1, 0, 0.6) for (a1, a2, c), M2 pays (0, 1, 0.6). Whoever knows which MDP
it is takes a1 or a2 and earns 1 a step. In the pool each action pays its mean over whoever logged it:

- **Uniform data**: a1 and a2 seem to pay 0.5 and c 0.6. The agent settles for c, in both MDPs.
- **Near-expert data**: the transitions of a1 are nearly all M1's, where it pays, those of a2 nearly all M2's. Both
  seem to pay nearly 1, the agent takes the first of them, and believes in it in M2 as well, where it earns nothing.
  Better data make the pooled agent worse on average, and surer of itself.
- **More of M1 in the pool**: the agent turns from M2's expert into the one that settles for c, then into M1's
  expert."""

REGRET = """## Random MDPs: the identity is what is missing

{mdps} MDPs a seed, {states} states, {actions} actions, all different in transitions and rewards. Regret is what the
return lacks of the MDP's own optimum, the start being in every state equally often; returns lie between 0 and
{most:.0f}.

- *Pooled Q* is the limit of the corrected proposition.
- *Own batch's Q* learns from one MDP's batch and acts in that MDP.
- *Q, identity told*: the same Q-learning on the same pool, but the state is (i, s), so it tells the MDP i. The
  proposition now yields K blocks that no transition links, each the MDP of one batch: it must equal *own batch's Q*
  (the table on top tells the largest difference).
- *Q, identity inferred* starts every episode knowing nothing. It takes the best action under the posterior mean of
  the K value functions, and updates the posterior over the MDPs by Bayes' rule after each transition, with
  likelihoods of (r, s') counted in the batches. That is what tiMe does with networks: distilled values, and f in
  place of Bayes' rule. Its regret is what is paid before the identity is known."""

PROPORTIONS = """## What is in the pool decides

Left: uniform data, more and more of it from the first MDP. Middle and right: equal parts of all, logged by policies
that take the optimal action of their own MDP more and more often. With uniform data R^ and T^ are the plain averages
of the MDPs. With expert data the pool credits each action with what it earns *where experts take it*, and the pooled
agent believes in a world made of every MDP's best parts, while who is told the identity believes the truth."""

SIGN = """## Untried actions and the sign of the rewards

An untried action is worth 0 (corrected) or γ V*(s) (as stated). Where rewards are positive that is pessimism, and the
greedy agent stays with what was logged. Where they are negative, as in the paper's toy and its HalfCheetah, it is
optimism under both conventions: V*(s) = 0 wherever an action was never tried, and the greedy agent takes that action,
whatever it does. So what the proposition's MDP means hangs on where zero is; batch-constrained learners such as BCQ
take no untried action, and need no value for one. Here the batches of three random MDPs lack one action in half of
the states, every MDP has its own Q, and all that changes is that 1 is subtracted from each reward, which alters no
policy's regret."""

SET_UP = """## The set-up

{mdps} MDPs with S = {states}, A = {actions}, γ = {discount}; T(s, a, .) from a Dirichlet distribution with parameters
0.5; R(s, a) uniform in [0, 1], of which a reward of 0 or 1 is drawn. Batches ({transitions} transitions of each MDP
at this scale): states uniform, actions by the logging policy. Limits by value iteration to {tolerance:g}; regrets by
linear solves, those of the agent that infers by {episodes} episodes of {steps} steps in each MDP. The paper does not
demonstrate the proposition, so every number here is our choice."""
