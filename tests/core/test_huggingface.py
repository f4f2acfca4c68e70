"""Networks of transformers and LoRA of peft on dictionary batches, against dense matrices of torch's own loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import measure, measure_blocks
from sharpbench.core.groups import assign_blocks
from sharpbench.core.subject import Subject
from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # importing transformers takes 5 s

V, T, N, C = 12, 6, 4, 3


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("transformers")
    import_torchvision()  # where it does not fit torch, transformers cannot be imported after it
    import transformers

    return transformers


def batch() -> dict[str, Tensor]:
    ids = torch.randint(1, V, (N, T), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": (torch.arange(T) < torch.tensor([6, 4, 3, 5])[:, None]).long()}


def classifier(transformers: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
    config = transformers.BertConfig(vocab_size=V, max_position_embeddings=T, num_labels=C, **sizes)
    return transformers.BertForSequenceClassification(config).double()  # type: ignore[no-any-return]


def causal(transformers: Any) -> nn.Module:
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(vocab_size=V, n_embd=4, n_layer=1, n_head=2, n_positions=T, **ends)
    return transformers.GPT2LMHeadModel(config).double()  # type: ignore[no-any-return]


def logits(model: nn.Module, inputs: Any) -> Tensor:
    return model(**inputs).logits  # type: ignore[no-any-return]


def next_logits(model: nn.Module, inputs: Any) -> Tensor:
    return logits(model, inputs)[:, :-1]


def dense(subject: Subject, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The Hessian of F.cross_entropy on one batch by double backward passes, and the Gauss-Newton matrix."""
    names = list(subject.params)
    sizes = [value.numel() for value in subject.params.values()]
    flat = torch.cat([value.flatten() for value in subject.params.values()])

    def outputs(flat: Tensor) -> Tensor:
        pieces = zip(names, flat.split(sizes), strict=True)
        found = subject.apply({name: each.reshape(subject.params[name].shape) for name, each in pieces}, subject.inputs)
        return found.flatten(0, -2)

    def of_outputs(found: Tensor) -> Tensor:
        return F.cross_entropy(found, targets.flatten())

    hessian = torch.autograd.functional.hessian(lambda flat: of_outputs(outputs(flat)), flat)
    jacobian = torch.autograd.functional.jacobian(outputs, flat).flatten(0, 1)
    curved = torch.autograd.functional.hessian(of_outputs, outputs(flat))
    return hessian, jacobian.T @ curved.reshape(len(jacobian), len(jacobian)) @ jacobian


def check(subject: Subject, targets: Tensor) -> None:
    hessian, ggn = dense(subject, targets)
    assert measure("ggn-trace", subject).value == pytest.approx(float(ggn.trace()), rel=1e-8)
    top = measure("top-eigenvalue[tolerance=1e-9]", subject).value
    assert top == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-7)
    found = measure("trace", subject)
    assert found.value == pytest.approx(float(hessian.trace()), abs=6 * (found.stderr or 0) + 1e-8)


def test_a_classifier_with_a_mask(transformers: Any) -> None:
    model, targets = classifier(transformers), torch.arange(N) % C
    with pytest.raises(InvalidInput, match=r"SequenceClassifierOutput; .*inputs: model\(\*\*inputs\).logits"):
        Subject.from_module(model, batch(), targets)
    given = transformers.BatchEncoding(batch())
    subject = Subject.from_module(model, given, targets, forward=logits, parameters="*encoder*,classifier.*")
    check(subject, targets)
    assert {"attention", "mlp", "norm", "head"} == set(assign_blocks(subject, "kind").values())
    loader = [{**batch(), "labels": targets}]
    assert measure("ggn-trace", Subject.from_loader(model, loader, forward=logits)).value > 0


def test_a_causal_model_with_ignored_positions(transformers: Any) -> None:
    inputs = batch()
    targets = torch.where(inputs["attention_mask"] > 0, inputs["input_ids"], -100)[:, 1:]
    subject = Subject.from_module(causal(transformers), inputs, targets, forward=next_logits, parameters="*h.0.attn*")
    check(subject, targets)
    tied = Subject.from_module(causal(transformers), inputs, targets, forward=next_logits)
    assert "transformer.wte.weight" in tied.params
    assert "lm_head.weight" not in tied.params


def test_lora_blocks_of_peft(transformers: Any) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    model = peft.get_peft_model(classifier(transformers), config)
    targets = torch.arange(N) % C
    subject = Subject.from_module(model, batch(), targets, forward=logits, parameters="*lora*")
    assert len(subject.params) == 4
    assert len(subject.frozen) > 4
    check(subject, targets)
    blocks = measure_blocks("ggn-trace", subject, lambda name: "A" if "lora_A" in name else "B")
    total = sum(estimates["ggn-trace"].value for estimates in blocks.values())
    assert total == pytest.approx(measure("ggn-trace", subject).value, rel=1e-10)
