"""Populations of networks that were trained elsewhere: read from a file or a folder, planned and opened."""
