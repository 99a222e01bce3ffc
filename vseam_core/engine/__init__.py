"""The exact causal engine: it alone runs models."""
