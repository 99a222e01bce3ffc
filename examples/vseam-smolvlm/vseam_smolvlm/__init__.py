"""SmolVLM and a small benchmark of drawn shapes, as a plugin for vseam."""
