"""Plugins that supply vision-language models."""
