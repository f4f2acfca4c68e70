"""SAM and its variants as optimisers of torch, for one's own training loop (docs/sam.md).

>>> import torch
>>> from sharpbench.optim import ASAM
>>> model = torch.nn.Linear(2, 1)
>>> optimizer = ASAM(torch.optim.SGD(model.parameters(), lr=0.1), model)
>>> loss = optimizer.step(lambda: model(torch.ones(1, 2)).square().sum().backward())
"""

from sharpbench.optim.msam import MSAM
from sharpbench.optim.sam import ASAM, GSAM, SAM, FriendlySAM
from sharpbench.optim.sampa import SAMPa
from sharpbench.optim.sharpness_aware import SharpnessAware

__all__ = ["ASAM", "GSAM", "MSAM", "SAM", "FriendlySAM", "SAMPa", "SharpnessAware"]
