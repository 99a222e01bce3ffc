"""What a study found, for people: findings in sentences, tables, figures, and the interactive page."""
