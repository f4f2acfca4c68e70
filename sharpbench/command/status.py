"""Exit statuses beside 0. 1 is also Python's for a traceback, so no verdict on what others sent has it."""

EXIT_FAILED, EXIT_INVALID, EXIT_CLAIMED, EXIT_REFUTED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
