"""What benchmarks that are read from files share: records, pictures, pools, answer rules, checks."""
