"""Phase 2: K learners distilled into one student, conditioned on an inferred MDP identity (Algorithm 1)."""
