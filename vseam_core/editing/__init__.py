"""What every editor shares."""
