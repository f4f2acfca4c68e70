"""One thread a test process: on small networks more threads are slower, and values do not depend on the load."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the commands that tests start inherit it

import torch

torch.set_num_threads(1)
