"""What the statistics are worth: size, coverage and power of every procedure, by simulation (`python -m perf.statistics`)."""
