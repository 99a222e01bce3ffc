"""Hypothesis tries the same examples every time, and a slow machine fails no test."""

from hypothesis import settings

settings.register_profile("vseam", deadline=None, derandomize=True, database=None)
settings.load_profile("vseam")
