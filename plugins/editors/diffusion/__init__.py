"""Painters with a diffusion model, on stock diffusers pipelines; nothing here is imported before such a painter is used."""
