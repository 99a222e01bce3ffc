"""What benchmarks that are read from files share: records, images, pools, answer rules, checks."""
