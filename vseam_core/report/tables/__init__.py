"""Tables for the terminal and the page, one module each."""
