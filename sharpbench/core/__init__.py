"""What a measure is, what it measures and what a result is: measures, subjects, losses, graphs, specs and records."""
