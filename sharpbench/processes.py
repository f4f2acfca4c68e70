"""A watched child process: start it, send it work, wait for its answer within a time limit, and say why it ended."""
