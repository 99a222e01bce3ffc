"""Causal tracing methods."""
