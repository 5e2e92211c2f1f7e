"""Models in numpy: arithmetic only, one kind a file."""
