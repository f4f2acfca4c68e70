"""The full symmetry of Hugging Face's BERT, GPT-2 and Llama, of tiny configuration, and the minimum over it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.environment import import_torchvision
from sharpbench.symmetry import Float64Check, full_group

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # importing transformers takes 5 s

WORDS, TOKENS, EXAMPLES = 12, 6, 4
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12, "max_position_embeddings": TOKENS}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("transformers")
    import_torchvision()  # where it does not fit torch, transformers cannot be imported after it
    import transformers

    return transformers


def bert(transformers: Any) -> Any:
    config = transformers.BertConfig(vocab_size=WORDS, num_attention_heads=2, num_labels=3, **SIZES)
    return transformers.BertForSequenceClassification(config)


def gpt2(transformers: Any) -> Any:
    config = transformers.GPT2Config(vocab_size=WORDS, n_embd=8, n_layer=2, n_head=2, n_positions=TOKENS, **ENDS)
    return transformers.GPT2LMHeadModel(config)


def llama(transformers: Any) -> Any:
    """Rotary embeddings, and two heads of queries for one of keys and values."""
    config = transformers.LlamaConfig(vocab_size=WORDS, num_attention_heads=4, num_key_value_heads=2, **SIZES, **ENDS)
    return transformers.LlamaForCausalLM(config)


def class_logits(model: nn.Module, inputs: Any) -> Tensor:
    return model(**inputs).logits  # type: ignore[no-any-return]


def next_logits(model: nn.Module, inputs: Any) -> Tensor:
    return model(**inputs, use_cache=False).logits[:, :-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "blocks", "restricted"),
    [(bert, "8 x GL(4)", 0), (gpt2, "8 x GL(4)", 0), (llama, "4 x GL(2)", 2)],
)
def test_the_minimum_over_the_full_symmetry(transformers: Any, make: Any, blocks: str, restricted: int) -> None:
    torch.manual_seed(0)
    model = make(transformers).double().eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    inputs = {"input_ids": torch.randint(WORDS, (EXAMPLES, TOKENS))}
    classes = make is bert
    forward = class_logits if classes else next_logits
    targets = torch.arange(EXAMPLES) % 3 if classes else inputs["input_ids"][:, 1:]
    generator = torch.Generator().manual_seed(0)
    group = full_group(model, inputs, generator=generator, forward=forward)
    assert group.words == blocks
    assert group.restricted == restricted
    check = Float64Check.of(model, inputs, generator=generator, forward=forward)
    assert check.change(group.random_move(check.state, generator)) < 1e-10
    subject = Subject.from_module(model, inputs, targets, forward=forward)
    least = measure("minimum[scope=full]", subject)
    assert least.converged
    assert least.value <= measure("minimum[scope=unit]", subject).value
    moved = subject.with_params(group.random_move(subject.params, generator))
    assert measure("minimum[scope=full]", moved).value == pytest.approx(least.value, rel=1e-6)
