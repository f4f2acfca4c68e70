"""Minimum Sharpness (Ibayashi, Hamaguchi, Imaizumi 2021), replayed."""
