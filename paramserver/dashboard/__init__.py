"""The live page of a cluster, and its numbers for Prometheus."""
