"""Run directories: atomic storage, checkpoints, metrics, the lock."""
