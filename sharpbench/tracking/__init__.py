"""Sharpness while a user's own loop trains: the tracker, its measures, its sinks and its callbacks."""
