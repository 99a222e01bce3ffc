"""Edit planners: which concept of a question to change, and into what."""
