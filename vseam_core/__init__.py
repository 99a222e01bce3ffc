"""The framework below `vseam`.

Users import `vseam`. Authors of plugins import `vseam_core.api` (interfaces, interventions, types, prompts), `vseam_core.errors`,
`vseam_core.plugins.hookspecs`, `vseam_core.plugins.records` and `vseam_core.testing`. Importing this package alone imports nothing else.
"""
