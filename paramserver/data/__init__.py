"""Data sets of this machine, and how they are cut into partitions."""
