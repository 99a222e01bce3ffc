"""Interventions on attention heads."""
