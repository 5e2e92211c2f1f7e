"""Training: averaging and push/pull as pure machines, and the drivers that feed them."""
