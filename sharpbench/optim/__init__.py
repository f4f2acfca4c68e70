"""SAM and its variants as optimisers of torch, for one's own training loop (docs/sam.md)."""

from sharpbench.optim.msam import MSAM
from sharpbench.optim.sam import ASAM, GSAM, SAM, FriendlySAM
from sharpbench.optim.sampa import SAMPa
from sharpbench.optim.sharpness_aware import SharpnessAware

__all__ = ["ASAM", "GSAM", "MSAM", "SAM", "FriendlySAM", "SAMPa", "SharpnessAware"]
