"""What a network forgets when it is trained further, on the same inputs with other labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch.func import functional_call

from sharpbench.training.examples import generator_for
from sharpbench.training.outcomes.outcome import JudgedNetwork, Outcome


@dataclass(frozen=True)
class Forgetting(Outcome):
    """Test accuracy lost by fine-tuning on another task: the network's training inputs, each class named as the next.

    SGD without momentum or weight decay takes `steps` steps of rate `rate` on batches of `batch` examples, drawn with
    replacement from the hash of the recipe. Norms and dropout are in eval mode.
    """

    steps: ClassVar[int] = 20
    rate: ClassVar[float] = 0.01
    batch: ClassVar[int] = 64

    @property
    def name(self) -> str:
        """See Outcome."""
        return "forgetting"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return "test accuracy lost by fine-tuning on other labels"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        params = {name: value.detach() for name, value in network.module.named_parameters() if value.requires_grad}
        targets = (network.targets + 1) % network.data.classes
        generator = generator_for(network.recipe, "outcome forgetting")
        for _ in range(self.steps):
            chosen = torch.randint(len(targets), (self.batch,), generator=generator).to(targets.device)
            leaves = {name: value.requires_grad_() for name, value in params.items()}
            loss = F.cross_entropy(functional_call(network.module, leaves, (network.inputs[chosen],)), targets[chosen])
            gradients = torch.autograd.grad(loss, tuple(leaves.values()), materialize_grads=True)  # 0 where unused
            params = {
                name: (value - self.rate * gradient).detach()
                for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
            }
        with network.changed_weights(params):
            return network.accuracy_lost()
