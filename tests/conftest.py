"""One thread a test process: on small networks more threads are slower, and values do not depend on the load."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
