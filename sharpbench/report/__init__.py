"""Scores as tables, pages and plots. Import single modules: some load matplotlib or pandas."""
