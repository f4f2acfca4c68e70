"""Experiments of papers repeated, from the data that their authors published and from scratch."""
