"""Modules that run on the kernels, and `accelerate`, which puts them in a model."""
