"""What finds the pixels of a concept."""
