"""How figures and tables name sites and token roles."""

from __future__ import annotations

SITE_WORDS = {
    "attention_output": "attention output",
    "mlp_output": "MLP output",
    "residual_after": "residual stream",
    "cross_attention_output": "cross-attention output",
}
ROLE_WORDS = {
    "structural_before": "before the image",
    "structural_after": "after the image",
    "question": "other question words",
    "object": "object word",
    "attribute": "attribute word",
    "action": "action word",
    "relation": "relation word",
    "template": "template",
    "last": "last position",
}
CONFOUND = (
    "Levels and question templates go together in most sets of tasks (all questions about objects are asked in one form), so that more "
    "sharing within levels can be due to the form of the question as well."
)
"""What an overlap by level cannot tell apart; said wherever the level finding is told."""
ACROSS_FORMS = (
    "Every category was asked in two forms, and only pairs that are asked in different forms count: what tasks of one level share more "
    "than others is not the form of the question."
)
"""What is said instead where the test has taken them apart."""
