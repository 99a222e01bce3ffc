"""The planner by rules: question shapes, curated sets of siblings, and English inflection."""
