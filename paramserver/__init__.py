"""paramserver."""
