"""Linear layers: the features that one reads, and its loss's curvature weighted by products of features and weights.

With z_t = W phi_t + b at positions t, W enters an example's loss only through z. So the Hessian by W is exactly
sum_{t,t'} phi_t phi_t'^T (x) B_tt', with B the loss's Hessian by z, whatever the network does after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs, as_batch, unbind_examples
from sharpbench.core.graph import Graph
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.subject import Subject
from sharpbench.curvature.layers import Layer, aten, run_layer
from sharpbench.curvature.products import PROBE_BYTES, map_vectors
from sharpbench.curvature.soundness import sound_method
from sharpbench.curvature.vjp import layerwise_network
from sharpbench.errors import InvalidInput


@dataclass(frozen=True, slots=True, eq=False)
class LinearLayer:
    """A linear layer of a subject's network whose weight W [out, in] enters nowhere else.

    name: of W. last: whether its outputs are the logits.
    """

    subject: Subject
    graph: Graph
    layer: Layer
    name: str

    @property
    def last(self) -> bool:
        """Whether its outputs are the logits."""
        return self.graph.outputs[0] is self.layer.node

    @property
    def weight(self) -> Tensor:
        """W [out, in]."""
        return self.subject.params[self.name]

    def mean(self, of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """The mean over examples of of(features [T, in], logits [C], target), T positions (1 in plain networks)."""

        def one(example: Inputs, target: Tensor) -> Tensor:
            logits, features = self._outputs(example, None)
            return of(features, logits, target)

        return self.subject.mean(lambda inputs, targets: _by_example(one, inputs, targets).mean(0))

    def spread(self) -> Tensor:
        """The standard deviation [in] of each feature over examples and positions; exactly 0 for constant ones."""
        centre = self.mean(lambda features, logits, target: features.mean(0))
        variance = self.mean(lambda features, logits, target: (features - centre).square().mean(0))
        rounding = 10 * torch.finfo(centre.dtype).eps * centre.abs()
        return torch.where(variance.sqrt() > rounding, variance.sqrt(), 0.0)

    def weighted_trace(self, feature_scale: Tensor, weight_scale: Tensor) -> Tensor:
        """sum_{s,s'} <w_s, w_s'> tr H_ss' with w = W * weight_scale, and phi * feature_scale in place of phi.

        H_ss' [in, in] is the mean loss's Hessian by the rows s, s' of W. Scales are [in]. Cost: min(in, out) products
        with the Hessian by z, of what comes after the layer; times min(in, T) where there are T positions.
        """
        weights = _factor(self.weight * weight_scale)  # Q [out, r], Q Q^T = w w^T
        rows = len(weights.T)
        method = sound_method(self.subject)

        def one(example: Inputs, target: Tensor) -> Tensor:
            features = self._outputs(example, None)[1]
            positions = _factor(features * feature_scale)  # P [T, a]
            pairs = torch.einsum("ta,or->arto", positions, weights).flatten(0, 1)

            def loss(shift: Tensor) -> Tensor:
                logits = self._outputs(example, shift)[0]
                return self.subject.criterion(logits[None], target[None])[0]

            def form(direction: Tensor) -> Tensor:
                start = torch.zeros_like(direction)
                curved = method.hvp(lambda at: loss(at["shift"]), {"shift": start}, {"shift": direction})["shift"]
                total: Tensor = (curved * direction).sum()
                return total

            return map_vectors(form, pairs, 0 if method.plain else len(pairs)).sum()

        held = layerwise_network(self.subject).sizes.results * (1 + rows) * self.weight.element_size()
        chunk = max(1, PROBE_BYTES // held)

        def batch(inputs: Inputs, targets: Tensor) -> Tensor:
            return _by_example(one, inputs, targets, together=0 if method.plain else chunk).mean()

        return self.subject.mean(batch)

    def _outputs(self, example: Inputs, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits [C] and features [T, in] of one example, with `shift` [T, out] added to the layer's outputs."""
        shape = self.layer.node.meta["val"].shape
        added = self.weight.new_zeros(shape) if shift is None else shift.reshape(shape)
        values = {**self.subject.constants, **self.subject.params}
        logits, data = run_layer(self.graph, values, as_batch(example), (self.layer,), (added,))
        return logits[0], data[0].flatten(0, -2)


def _by_example(
    of: Callable[[Inputs, Tensor], Tensor], inputs: Inputs, targets: Tensor, *, together: int | None = None
) -> Tensor:
    """of(example, target) [B, ...]; one by one where `together` is 0 or torch cannot vmap the operators (lstm_cell)."""
    if together != 0:
        try:
            return torch.func.vmap(of, chunk_size=together)(inputs, targets)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
    return torch.stack([of(*pair) for pair in zip(unbind_examples(inputs), targets, strict=True)])


def linear_layer(subject: Subject, name: str | None = None) -> LinearLayer:
    """The linear layer whose weight is the parameter `name`, or belongs to the module of that name; None: the last one.

    Raises:
        InvalidInput: where there is no such layer, or where its weight is not measured or is also used elsewhere.

    >>> layer = curvature.linear_layer(subject)
    >>> layer.name, layer.last
    ('weight', True)
    """
    whole = layerwise_network(subject)
    if whole.graph is None:
        raise InvalidInput(f"the graph of {subject.name} cannot be captured, so that no layer of it is known")
    found = {
        layer.weight: LinearLayer(subject, whole.graph, layer, layer.weight)
        for layer in whole.layers
        if layer.weight is not None and layer.node.target == aten.linear.default
    }
    known = f"it has {', '.join(found)}" if found else "it has none"
    if name is None:
        last = next((layer for layer in found.values() if layer.last), None)
        if last is None:
            raise InvalidInput(f"{subject.name} does not end in a linear layer under measurement; {known}")
        return last
    chosen = found.get(name) or found.get(f"{name}.weight")
    if chosen is None:
        raise InvalidInput(f"'{name}' is not a linear layer of {subject.name} that is used once; {known}")
    return chosen


def _factor(matrix: Tensor) -> Tensor:
    """F with F F^T = M M^T for M [rows, columns] and at most `rows` columns."""
    if matrix.shape[1] <= matrix.shape[0]:
        return matrix
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    factor: Tensor = vectors * values.clamp_min(0).sqrt()
    return factor
