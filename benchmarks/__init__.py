"""asv: our own speed, memory and exactness over the history. `asv run`; see CONTRIBUTING.md."""
