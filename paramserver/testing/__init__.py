"""Shipped test tools: simulator, fault plans, conformance checks, in-memory fakes."""
