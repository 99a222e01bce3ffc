"""Figures and closing tables."""
