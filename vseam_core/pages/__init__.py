"""What every HTML page of vseam is made with: one base template, escaping on, nothing remote."""
