"""Cells in, records out: planning what is run, running it on an engine, and the state of a run."""
