"""Compiled loops over batches (extra `fast`). Only `choice` may be imported without numba.

Rule 1: a kernel takes the steps of `Model._plain_steps`, in the same order, and ends with the same
        weights to rounding: no `fastmath`, no other batches, no other draw.
Rule 2: what runs is settled on the master, and a process that cannot do it says so.
"""
