"""Batches of transitions on the disk, one directory an MDP."""

from bmrl.data.batch import Batch, read_batch, read_batches, write_batch

__all__ = ["Batch", "read_batch", "read_batches", "write_batch"]
