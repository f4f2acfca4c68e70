"""From records to numbers: populations of networks, scores of measures on them, and the statistics of both."""
