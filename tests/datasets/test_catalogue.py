"""The catalogue of data sets, and the hash of their content."""

import pytest
import torch

from sharpbench import datasets
from sharpbench.core.registry import plugin_error
from sharpbench.datasets import DATASETS, Data, Dataset, scale_pixels


def test_the_catalogue_holds_the_data_sets_in_order():
    names = [dataset.name for dataset in DATASETS]
    published = ["fashion-mnist", "cifar10", "cifar10-jpeg", "cifar100", "svhn"]
    assert names[:10] == ["digits", "mnist", "mnist1d", *published, "imagefolder", "npz"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_each_data_set_is_a_frozen_value_with_title_and_source(dataset: type[Dataset]) -> None:
    assert plugin_error("datasets", dataset) is None
    given = {dataset.argument: "somewhere"} if dataset.argument else {}
    assert dataset(**given) == dataset(**given)
    assert hash(dataset(**given)) == hash(dataset(**given))
    assert dataset.title
    assert dataset.source


def test_all_that_is_exported_exists():
    assert all(hasattr(datasets, name) for name in datasets.__all__)


def test_pixels_are_scaled_to_minus_one_to_one():
    assert torch.equal(scale_pixels(torch.tensor([0.0, 0.25, 0.5, 1.0])), torch.tensor([-1.0, -0.5, 0.0, 1.0]))
    assert scale_pixels(torch.zeros(1, dtype=torch.float64)).dtype == torch.float32


def _data(**changes: torch.Tensor) -> Data:
    inputs, targets = torch.arange(12.0).reshape(3, 1, 2, 2), torch.tensor([0, 1, 1])
    fields = {
        "train_inputs": inputs,
        "train_targets": targets,
        "test_inputs": inputs,
        "test_targets": targets,
    }
    return Data(**{**fields, **changes}, classes=2)


def test_the_hash_sees_every_bit_type_and_shape():
    hashes = {
        _data().sha256(),
        _data(train_targets=torch.tensor([0, 1, 0])).sha256(),
        _data(train_targets=torch.tensor([0, 1, 1], dtype=torch.int32)).sha256(),
        _data(train_inputs=torch.arange(12.0).reshape(3, 1, 4, 1)).sha256(),
        _data(train_inputs=torch.arange(12.0).reshape(3, 1, 2, 2).nextafter(torch.tensor(99.0))).sha256(),
    }
    assert len(hashes) == 5


def test_the_hash_does_not_hang_on_the_layout_in_memory():
    inputs = torch.arange(12.0).reshape(3, 1, 2, 2)
    transposed = inputs.transpose(2, 3).contiguous().transpose(2, 3)
    assert not transposed.is_contiguous()
    assert _data(train_inputs=transposed).sha256() == _data().sha256()
