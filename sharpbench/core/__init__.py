"""Measures, subjects, losses, graphs, specs and records: what a measure is and what a result is."""
