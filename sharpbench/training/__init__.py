"""Training: the examples of a recipe, and groups of networks that are fitted to them together."""
