"""What users write down: study files, YAML, sizes in bytes, the choice of an editor."""
