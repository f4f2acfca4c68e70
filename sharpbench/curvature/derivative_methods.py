"""Methods of taking second derivatives: forward over reverse, two plain backward passes, and the module's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs, split_examples
from sharpbench.core.graph import run_graph
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.plain import (
    ScalarFunction,
    as_leaves,
    plain_gradient_and_value,
    plain_hvps,
    plain_jvp,
    plain_vjp,
    plain_vjps,
)

Network = Callable[[Params, Inputs], Tensor]


@dataclass(frozen=True, slots=True)
class DerivativeMethod:
    """How products with the Hessian and the Gauss-Newton matrix are taken.

    plain: two plain backward passes, one vector at a time; otherwise forward over reverse, vmapped over vectors.
    captured: through the captured graph, not the module. onednn: with oneDNN's operators, on the CPU.
    """

    name: str
    plain: bool = False
    captured: bool = False
    onednn: bool = True

    def network(self, subject: Subject) -> Network:
        """Logits [B, C] as a function of parameters and inputs."""
        if not self.captured:
            return subject.apply
        graph = subject.graph

        def through(params: Params, inputs: Inputs) -> Tensor:
            values = {**subject.constants, **params}
            return torch.cat(
                [run_graph(graph, values, example)[graph.outputs[0]] for example in split_examples(inputs)]
            )

        return through

    @contextmanager
    def operators(self) -> Iterator[None]:
        """Inside, oneDNN's operators are used or not, as the method says."""
        before = bool(torch.backends.mkldnn.enabled)
        torch._C._set_mkldnn_enabled(before and self.onednn)  # torch's own context manager warns of TF32 on leaving
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(before)

    def gradient_and_value(self, function: ScalarFunction, params: Params) -> tuple[Params, Tensor]:
        """The gradient of a scalar function, and its value."""
        if self.plain:
            return plain_gradient_and_value(function, params)
        gradient, value = torch.func.grad_and_value(function)(params)
        return gradient, value

    def slope_and_value(self, function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
        """The same for a function of one tensor."""
        gradient, value = self.gradient_and_value(lambda params: function(params["at"]), {"at": at})
        return gradient["at"], value

    def pullback(
        self, function: Callable[[Params], Tensor], params: Params
    ) -> tuple[Tensor, Callable[[Tensor], Params]]:
        """function(params), and what maps vectors [m, ...] of its shape to J^T v, stacked."""
        if self.plain:
            return plain_vjps(function, params)
        pulled = torch.func.vjp(function, params)
        value: Tensor = pulled[0]
        return value, lambda vectors: torch.func.vmap(pulled[1])(vectors)[0]

    def hvp(self, function: ScalarFunction, params: Params, vector: Params) -> Params:
        """H v of a scalar function."""
        if self.plain:
            return plain_hvps(function, params, [vector])[1][0]
        product: Params = torch.func.jvp(torch.func.grad(function), (params,), (vector,))[1]
        # torch gives the derivatives of some numbers without dimensions in float64, whatever their type
        return {name: value.to(params[name].dtype) for name, value in product.items()}

    def hvps(self, function: ScalarFunction, params: Params, vectors: Sequence[Params]) -> list[Params]:
        """H v of a scalar function for some vectors, vmapped unless by plain backward passes."""
        if self.plain:
            return plain_hvps(function, params, vectors)[1]
        stacked = {name: torch.stack([vector[name] for vector in vectors]) for name in params}
        found: Params = torch.func.vmap(lambda vector: self.hvp(function, params, vector))(stacked)
        return [{name: value[place] for name, value in found.items()} for place in range(len(vectors))]

    def second(self, function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        """The second derivative of a function of one number."""
        if not self.plain:
            found: Tensor = torch.func.grad(torch.func.grad(function))(at)
            return found
        return plain_hvps(lambda each: function(each["at"]), {"at": at}, [{"at": torch.ones_like(at)}])[1][0]["at"]

    def jvp(self, function: Callable[[Params], Tensor], params: Params, vector: Params) -> tuple[Tensor, Tensor]:
        """function(params) and its derivative along the vector."""
        if self.plain:
            return plain_jvp(function, params, vector)
        pushed = torch.func.jvp(function, (params,), (vector,))
        return pushed[0], pushed[1]

    def vjp(self, function: Callable[[Params], Tensor], params: Params, vector: Tensor) -> Params:
        """J^T v for a vector of the result's shape."""
        if self.plain:
            leaves = as_leaves(params)
            with torch.enable_grad():
                return plain_vjp(function(leaves), leaves, vector)
        pulled: Params = torch.func.vjp(function, params)[1](vector)[0]
        return pulled


DOUBLE_BACKWARD = DerivativeMethod("double backward", plain=True)
METHODS = (
    DerivativeMethod("forward over reverse"),
    DerivativeMethod("forward over reverse without oneDNN", onednn=False),
    DOUBLE_BACKWARD,
    DerivativeMethod("double backward without oneDNN", plain=True, onednn=False),
    DerivativeMethod("forward over reverse through the captured graph", captured=True),
)
"""In the order in which they are tried; the first is the default."""

DRAWN = 10_007
"""Random numbers that directions repeat: drawing one for each of many parameters takes longer than a gradient."""


def probed_loss(subject: Subject, network: Network, places: Tensor) -> ScalarFunction:
    """The mean loss of some examples, plus a random combination of their finite logits.

    The combination makes errors visible where the loss is tiny, and where its slope is 0.
    """
    inputs, targets = subject.pick(places)
    drawn = torch.randn(DRAWN, generator=torch.Generator().manual_seed(3)).to(subject.device)

    def function(params: Params) -> Tensor:
        logits = network(params, inputs)
        finite = torch.where(logits.isfinite(), logits, 0.0).flatten()
        factors = drawn.repeat(-(-finite.numel() // DRAWN))[: finite.numel()].to(finite)
        return subject.criterion(logits, targets).mean() + (finite * factors).mean()

    return function
