"""What loaders of any family need and no engine knows: prompts and their positions, answer ids, hashes that identify a model."""
