"""The largest whole number that is taken from people and files."""

LARGEST_WHOLE_NUMBER = 2**53
"""Every part behind an option holds it exactly: 64-bit columns, slices, seeds, and readers of JSON, which count in doubles."""
