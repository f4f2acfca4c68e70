"""Records to numbers: populations of networks, the scores of measures on them, and the statistics behind both."""
