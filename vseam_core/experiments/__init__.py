"""The methods as a user runs them: each composes a model, a dataset, the engine and the store into resumable units."""
