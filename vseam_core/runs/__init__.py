"""Runs: what identifies a unit of work, and how units are run, stored and resumed."""
