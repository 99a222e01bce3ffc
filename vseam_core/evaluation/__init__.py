"""The figures of answers: metrics with errors clustered by image, paired comparison, the yes/no threshold beside which they stand."""
