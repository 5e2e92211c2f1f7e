"""The tests: what must hold, one sentence each."""
