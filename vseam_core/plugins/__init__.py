"""Plugins: how they are declared (hook specifications and records), found, registered, named by users (registry) and loaded."""
