"""Built-in ways to change how answers are generated, without training."""
