"""Plugins: how they are declared (hook specifications, specs), found, named (registry) and loaded."""
