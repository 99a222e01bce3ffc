"""What a study found: aggregates of stored effects, and the frames that reports and tables are made from."""
