"""From stored effects to claims: head selection, shared heads, modulation, statistics (numpy, scipy and pandas only)."""
