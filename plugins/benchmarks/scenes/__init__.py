"""The scenes world: a procedural visual world with exact edits and questions of seven categories."""
