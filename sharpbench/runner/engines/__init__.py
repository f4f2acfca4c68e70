"""Where cells are measured: in this process, in worker processes, or on a Ray cluster; one scheduler for all."""
