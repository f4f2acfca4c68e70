"""The digits: their content pinned, the enlargement against its definition, the split."""

import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from sharpbench.datasets import Data, Digits, read_digits


@pytest.fixture(scope="module")
def data() -> Data:
    return Digits().load(None)


def test_the_content_is_the_same_everywhere_and_always(data):
    assert data.sha256() == "401f3e61bc557779934652c71c4438e5c9851aaa4a4687dfa745e0b5694c7f2d"


def test_the_content_does_not_hang_on_the_global_seed_or_the_threads(data):
    threads = torch.get_num_threads()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    try:
        assert Digits().load(None).sha256() == data.sha256()
    finally:
        torch.set_num_threads(threads)


def test_shapes_types_and_range(data):
    assert data.train_inputs.shape == (1437, 1, 28, 28)
    assert data.test_inputs.shape == (360, 1, 28, 28)
    assert data.shape == (1, 28, 28)
    assert data.classes == 10
    for inputs in (data.train_inputs, data.test_inputs):
        assert inputs.dtype == torch.float32
        assert inputs.is_contiguous()
        assert (inputs.min(), inputs.max()) == (-1, 1)
    assert data.train_targets.dtype == data.test_targets.dtype == torch.int64


def test_the_split_is_stratified_and_disjoint_and_leaves_nothing_out(data):
    digits = load_digits()
    whole = torch.from_numpy(digits.target).bincount()
    train, test = data.train_targets.bincount(), data.test_targets.bincount()
    assert torch.equal(train + test, whole)
    assert (test - whole / 5).abs().max() < 1
    rows = [row.numpy().tobytes() for row in torch.cat([data.train_inputs, data.test_inputs])]
    assert len(set(rows)) == len(digits.images) == 1797  # all images differ, so no row is in both parts


def _bilinear(image: torch.Tensor, row: int, column: int) -> float:
    """One pixel of an 8x8 image enlarged to 28x28, from the definition, edges repeated."""
    value = 0.0
    y, x = (row + 0.5) * 8 / 28 - 0.5, (column + 0.5) * 8 / 28 - 0.5
    for i in range(-1, 9):
        for j in range(-1, 9):
            weight = max(0.0, 1 - abs(y - i)) * max(0.0, 1 - abs(x - j))
            value += weight * float(image[min(max(i, 0), 7), min(max(j, 0), 7)])
    return value


def test_the_enlargement_agrees_with_its_definition(data):
    image = torch.from_numpy(load_digits().images)[1]  # the first one of the digit 1, not held out
    expected = torch.tensor([[_bilinear(image, row, column) for column in range(28)] for row in range(28)])
    index = int((data.train_targets == 1).nonzero()[0])
    torch.testing.assert_close(data.train_inputs[index, 0], expected / 8 - 1, rtol=0, atol=1e-6)


def test_the_images_are_those_of_scikit_learn():
    theirs = load_digits()
    images, targets = read_digits()
    assert torch.equal(images.double(), torch.from_numpy(theirs.images))
    assert torch.equal(targets, torch.from_numpy(theirs.target))


def test_scikit_learn_is_not_imported():
    """Nor scipy.stats; a run would start later by a third."""
    code = (
        "import sys, sharpbench.runner.run, sharpbench.runner.engines.worker, sharpbench.datasets as them;"
        "them.Digits().load(None); print({'sklearn', 'scipy.stats'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "none\n"
