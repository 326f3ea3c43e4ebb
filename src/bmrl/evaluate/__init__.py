"""The zero-shot test: agents, episodes in lockstep, rows of results, and the test of the identity."""
