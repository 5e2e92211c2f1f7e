"""How many batches there are in a partition. Pure: decisions count them, workers cut them."""

from __future__ import annotations


def n_batches(n_examples: int, batch_size: int) -> int:
    """Return how many batches an epoch has; the last one may be smaller.

    Examples
    --------
    >>> n_batches(9, 4)
    3
    """
    return -(-n_examples // batch_size)
