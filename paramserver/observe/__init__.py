"""Seeing what happens: the run log and what reads it."""
