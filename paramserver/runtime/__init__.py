"""The drivers around the pure machines: the only code with loops, threads and waits."""
