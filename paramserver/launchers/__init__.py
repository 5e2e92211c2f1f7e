"""Start, watch and stop worker processes on an engine."""
