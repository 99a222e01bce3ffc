"""Running a benchmark on a model: answers, accuracy with clustered errors, paired comparison."""
