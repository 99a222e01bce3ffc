"""Built-in plugins of vseam."""
