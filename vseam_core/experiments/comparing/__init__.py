"""Ways to generate answers beside one another, on the same samples: `vseam compare`."""
