"""Head rescaling: candidates, their fit, and the fitted model as a checkpoint."""
