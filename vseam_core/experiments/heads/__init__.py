"""Experiments on attention heads."""
