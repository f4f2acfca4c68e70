"""Outcomes against values found by hand on tiny networks, torch's own fake quantisation and its own pruning."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sharpbench.datasets import Data, Mnist1d
from sharpbench.errors import InvalidInput
from sharpbench.models import Model
from sharpbench.training.network import TrainedNetwork, TrainingResult
from sharpbench.training.outcomes import OUTCOMES, JudgedNetwork, Outcome, OutcomeStore, select_outcomes
from sharpbench.training.outcomes.forgetting import Forgetting
from sharpbench.training.outcomes.outcome import calibration_error
from sharpbench.training.outcomes.shifts import Shifted
from sharpbench.training.outcomes.weights import prune, quantise
from sharpbench.training.recipe import Recipe

RESULT = TrainingResult(
    train_loss=0.25, train_accuracy=1.0, test_loss=1.0, test_accuracy=1.0, gap=0.0, fitted=True, diverged=False,
    steps=1, epochs=1, seconds=0.0, parameter_norm=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Two(Model):
    name: ClassVar[str] = "two"
    title: ClassVar[str] = "one linear layer with two inputs"
    source: ClassVar[str] = "a test"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


RECIPE = Recipe(model=Two(), dataset=Mnist1d())
WEIGHT, BIAS = torch.tensor([[1.0, 0.2], [0.0, 0.3]]), torch.tensor([0.0, 0.05])


def data(inputs: Tensor, targets: Tensor) -> Data:
    return Data(inputs, targets, inputs, targets, classes=2)


def judged(**changes: object) -> JudgedNetwork:
    """Logits x + 0.2 y and 0.3 y + 0.05: the second wins where 0.1 y + 0.05 > x. Both test examples are right."""
    module = RECIPE.model.build((1, 2), 2).eval()
    module.load_state_dict({"1.weight": WEIGHT, "1.bias": BIAS})
    inputs = torch.tensor([[[0.1, 0.2]], [[0.1, 2.0]]])
    held = data(inputs, torch.tensor([0, 1]))
    fields = {"module": module, "recipe": RECIPE, "result": RESULT, "data": held, "inputs": inputs}
    return JudgedNetwork(**{**fields, "targets": held.train_targets, **changes})  # type: ignore[arg-type]


def test_the_catalogue_names_each_outcome_once() -> None:
    assert list(OUTCOMES)[:3] == ["gap", "loss-gap", "calibration"]
    assert {"quantised-8", "quantised-2", "pruned-90", "shifted-shear", "shifted-blur", "shifted-jpeg"} <= set(OUTCOMES)
    assert list(OUTCOMES)[-1] == "forgetting"
    assert all(name == each.name and each.meaning and each.version >= 1 for name, each in OUTCOMES.items())


def test_gaps_are_differences_of_the_training_result() -> None:
    result = replace(RESULT, gap=0.125, test_loss=1.75)
    assert OUTCOMES["gap"].find(judged(result=result)) == 0.125
    assert OUTCOMES["loss-gap"].find(judged(result=result)) == 1.5
    assert math.isnan(OUTCOMES["loss-gap"].find(judged(result=replace(RESULT, test_loss=None))))


def test_the_calibration_error_of_hand_made_confidences() -> None:
    """Confidences 0.8 and 0.9 are in two of 15 bins: |1 - 0.8| and |0 - 0.9|; 0.81 and 0.82 in one with 0.8 in five."""
    logits = torch.tensor([[0.8, 0.2], [0.9, 0.1]]).log()
    assert calibration_error(logits, torch.tensor([0, 1]), bins=15) == pytest.approx((0.2 + 0.9) / 2)
    together = torch.tensor([[0.81, 0.19], [0.83, 0.17], [0.3, 0.7]]).log()
    expected = (abs(1 - 1.64) + abs(1 - 0.7)) / 3
    assert calibration_error(together, torch.tensor([0, 1, 1]), bins=5) == pytest.approx(expected)
    assert math.isnan(calibration_error(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), bins=15))
    network = judged()
    logits = network.module(network.data.test_inputs).detach()
    assert OUTCOMES["calibration"].find(network) == calibration_error(logits, network.data.test_targets, bins=15)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_are_rounded_as_torch_fakes_quantisation(bits: int) -> None:
    weights = torch.randn(40, 7, generator=torch.Generator().manual_seed(bits))
    levels = 2 ** (bits - 1) - 1
    weights *= torch.logspace(-2, 1, 40)[:, None]
    scales, zeros = weights.abs().amax(1) / levels, torch.zeros(40, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weights, scales, zeros, 0, -levels, levels)
    torch.testing.assert_close(quantise(weights, bits), expected, rtol=1e-6, atol=0)
    assert max(len(row.unique()) for row in quantise(weights, bits)) <= 2 * levels + 1
    kernels = weights[:35].view(5, 7, 7)  # of a convolution with five outputs
    each = torch.stack([quantise(kernel.reshape(1, -1), bits).view(7, 7) for kernel in kernels])
    assert torch.equal(quantise(kernels, bits), each)
    assert torch.equal(quantise(torch.zeros(3, 3), bits), torch.zeros(3, 3))


def test_two_bits_cost_the_hand_made_network_half_of_its_accuracy() -> None:
    """At two bits the largest weight of each row is left: the logits are x and 0.3 y + 0.05, both of class 1."""
    network = judged()
    assert OUTCOMES["quantised-8"].find(network) == 0.0
    assert OUTCOMES["quantised-2"].find(network) == 0.5
    assert torch.equal(network.module.get_parameter("1.weight"), WEIGHT)  # and the network is as it was


@pytest.mark.parametrize("percent", [50, 80, 90])
def test_the_smallest_weights_of_all_layers_go_first_as_in_torch(percent: int) -> None:
    torch.manual_seed(percent)
    module = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 5))
    weights = {name: value.detach().clone() for name, value in module.named_parameters() if value.dim() > 1}
    layers = [(layer, "weight") for layer in module]
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=round(1.12 * percent))
    for name, value in prune(weights, percent).items():
        assert torch.equal(value, module.get_submodule(name.partition(".")[0]).weight)  # type: ignore[arg-type]


def test_pruned_weights_leave_the_largest_one() -> None:
    network = judged()
    assert torch.equal(prune(network.weights(), 50)["1.weight"], torch.tensor([[1.0, 0.0], [0.0, 0.3]]))
    assert OUTCOMES["pruned-50"].find(network) == 0.5  # x against 0.3 y + 0.05: both become class 1
    assert OUTCOMES["pruned-80"].find(network) == 0.5  # x against 0.05: both become class 0


def test_networks_without_weights_lose_none() -> None:
    assert prune({}, 50) == {}
    assert quantise(torch.zeros(0, 3), 4).shape == (0, 3)


def test_all_is_named_by_itself() -> None:
    with pytest.raises(InvalidInput, match="'all' takes every outcome; leave out the other names"):
        select_outcomes("gap,all", [])


def test_shifted_inputs_are_those_of_their_definition() -> None:
    signals = data(torch.ones(2, 1, 40), torch.tensor([0, 1]))
    assert torch.equal(Shifted("scale").shift(signals), torch.full((2, 1, 40), 0.6))
    sheared = Shifted("shear").shift(signals)
    assert torch.equal(sheared, Shifted("shear").shift(signals))
    torch.testing.assert_close(sheared.diff(n=2), torch.zeros(2, 1, 38), atol=1e-5, rtol=0)
    torch.testing.assert_close(sheared.mean(-1), torch.ones(2, 1))
    assert float((sheared[..., -1] - sheared[..., 0]).abs().max()) <= 4.85
    noisy = torch.randn(400, 1, 40)
    added = Shifted("noise").shift(data(noisy, torch.zeros(400).long())) - noisy
    assert float(added.std() / noisy.std()) == pytest.approx(0.3, rel=0.03)
    image = torch.zeros(1, 1, 3, 3)
    image[..., 1, 1] = 9.0
    images = data(image, torch.tensor([0]))
    expected = [[9 / 4, 9 / 6, 9 / 4], [9 / 6, 1.0, 9 / 6], [9 / 4, 9 / 6, 9 / 4]]
    torch.testing.assert_close(Shifted("blur").shift(images), torch.tensor([[expected]]))
    assert Shifted("contrast").shift(images)[0, 0, 1].tolist() == [0.5, 5.0, 0.5]


def test_images_are_those_that_are_left_of_a_jpeg_file() -> None:
    """At quality 50 the standard's table of the luminance holds: 16 for the mean of a block, 99 at the highest waves.

    The coefficient of the mean is 8 times the mean less 128, so 128 + 2k is kept. The largest of a chessboard of
    128 +- a is 6.57 a at the highest waves: below half of its step for a = 6, which is lost, and above for a = 9. At
    quality 75 the 6 is kept also, at 40 the 9 is lost. The levels 0 and 255 are the smallest and the largest training
    input.
    """
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    blocks = torch.cat([torch.full((8, 8), 128.0 + 2 * k) for k in (0, 5, -30)], 1)
    board = (-1.0) ** (row + column)
    fine = torch.cat([128.0 + 6 * board, torch.full((8, 16), 128.0)], 1)
    levels = torch.stack([blocks, fine])[:, None]
    ends = torch.tensor([0.0, 255.0]).view(1, 2, 1, 1).expand(1, 2, 8, 24).reshape(2, 1, 8, 24)

    def compressed(images: Tensor, train: Tensor) -> Tensor:
        return Shifted("jpeg").shift(Data(train, torch.zeros(2).long(), images, torch.zeros(2).long(), classes=2))

    expected = torch.stack([blocks, torch.full((8, 24), 128.0)])[:, None]
    assert torch.equal(compressed(levels, ends), expected)
    torch.testing.assert_close(compressed(levels / 127.5 - 1, ends / 127.5 - 1), expected / 127.5 - 1)
    kept = compressed((128.0 + 9 * board).expand(2, 1, 8, 8), ends)
    assert float((kept - 128).abs().max()) > 5
    colour = compressed(levels.expand(2, 3, 8, 24), ends.expand(2, 3, 8, 24))
    assert torch.equal(colour, expected.expand(2, 3, 8, 24))
    red = compressed(torch.tensor([200.0, 20.0, 90.0]).view(1, 3, 1, 1).expand(2, 3, 8, 8), ends.expand(2, 3, 8, 24))
    torch.testing.assert_close(red.mean((0, 2, 3)), torch.tensor([200.0, 20.0, 90.0]), rtol=0, atol=4)
    assert torch.equal(compressed(levels, levels[:1] * 0), levels)  # nothing is known of their range


def test_images_of_two_channels_have_no_jpeg() -> None:
    with pytest.raises(InvalidInput, match=r"\[2, 8, 8\] have shifted-noise, shifted-blur, shifted-contrast; leave"):
        select_outcomes("shifted-jpeg", [data(torch.zeros(2, 2, 8, 8), torch.tensor([0, 1]))])


def test_a_shift_costs_what_the_changed_inputs_cost() -> None:
    network = judged()
    lost = network.accuracy_lost(torch.tensor([[[0.0, 0.2]], [[0.1, 2.0]]]))
    assert lost == 0.5
    with torch.no_grad():
        right = network.module(Shifted("noise").shift(network.data)).argmax(1) == network.data.test_targets
    assert OUTCOMES["shifted-noise"].find(network) == 1.0 - float(right.float().mean())


def test_forgetting_is_plain_sgd_on_the_next_label_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.tensor([[[0.1, 0.2]]])
    network = judged(inputs=one, targets=torch.tensor([0]))  # every batch is this example, so steps are known
    monkeypatch.setattr(Forgetting, "steps", 2)
    plain = RECIPE.model.build((1, 2), 2)
    plain.load_state_dict(network.module.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(one), torch.tensor([1])).backward()
        optimizer.step()
    expected = 1.0 - float((plain(network.data.test_inputs).argmax(1) == network.data.test_targets).float().mean())
    assert OUTCOMES["forgetting"].find(network) == OUTCOMES["forgetting"].find(network) == expected
    monkeypatch.setattr(Forgetting, "steps", 400)
    assert OUTCOMES["forgetting"].find(network) == 0.5  # the example of class 0 has become one of class 1
    assert torch.equal(network.module.get_parameter("1.weight"), WEIGHT)


class Unused(nn.Module):
    """The hand-made network with a parameter that its outputs do not depend on."""

    def __init__(self, used: nn.Module) -> None:
        super().__init__()
        self.used, self.unused = used, nn.Parameter(torch.ones(2, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.used(inputs)
        return found


def test_a_parameter_that_nothing_uses_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forgetting, "steps", 400)
    network = judged()
    module = Unused(network.module).eval()
    assert OUTCOMES["forgetting"].find(judged(module=module)) == OUTCOMES["forgetting"].find(network)
    assert torch.equal(module.unused, torch.ones(2, 2))


def test_names_are_chosen_once_and_unknown_or_undefined_ones_are_refused() -> None:
    signals, images = data(torch.zeros(2, 1, 40), torch.tensor([0, 1])), data(torch.zeros(2, 1, 3, 3), torch.zeros(2))
    assert select_outcomes(" gap, quantised-4,gap", [signals]) == ("gap", "quantised-4")
    assert "shifted-shear" in select_outcomes("all", [signals])
    assert "shifted-shear" not in select_outcomes("all", [images])
    assert "shifted-blur" not in select_outcomes(["all"], [signals, images])
    with pytest.raises(InvalidInput, match=r"no outcome 'quantized-4'; did you mean 'quantised-4'"):
        select_outcomes("quantized-4", [])
    with pytest.raises(InvalidInput, match=r"'shifted-shear' is not defined .* \[1, 3, 3\] have shifted-noise"):
        select_outcomes("shifted-shear", [images])
    tokens = data(torch.zeros(2, 9, dtype=torch.long), torch.zeros(2))
    with pytest.raises(InvalidInput, match="have none of the shifts"):
        select_outcomes("shifted-noise", [tokens])


def trained(weight: Tensor = WEIGHT) -> TrainedNetwork:
    network = judged()
    return TrainedNetwork(
        recipe=RECIPE,
        result=RESULT,
        weights={"1.weight": weight, "1.bias": BIAS},
        initial={},
        inputs=network.inputs,
        targets=network.targets,
    )


def test_outcomes_are_found_once_for_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, held = OutcomeStore(tmp_path), judged().data
    names = ("quantised-2", "gap")
    found = store.obtain("k", trained(), held, names, device="cpu")
    assert found == {"quantised-2": 0.5, "gap": 0.0}

    def fail(self: Outcome, network: JudgedNetwork) -> float:
        raise AssertionError("found again")

    with monkeypatch.context() as patched:
        patched.setattr(type(OUTCOMES["quantised-2"]), "find", fail)
        assert store.obtain("k", trained(), held, names, device="cpu") == found
        assert store.obtain("k", trained(), held, ("gap", "loss-gap"), device="cpu") == {"gap": 0.0, "loss-gap": 0.75}
        for key, other in (("k", trained(2 * WEIGHT)), ("other", trained())):
            with pytest.raises(AssertionError, match="found again"):
                store.obtain(key, other, held, names, device="cpu")
        patched.setattr(type(OUTCOMES["quantised-2"]), "version", 3)
        with pytest.raises(AssertionError, match="found again"):
            store.obtain("k", trained(), held, names, device="cpu")
    path = tmp_path / "outcomes" / "k.json"
    assert json.loads(path.read_text())["outcomes"]["quantised-2"] == {"version": 2, "value": 0.5}
    path.write_text('{"weights": []}')
    assert store.obtain("k", trained(), held, names, device="cpu") == found


def test_an_outcome_that_is_not_finite_is_none(tmp_path: Path) -> None:
    lost = replace(trained(), result=replace(RESULT, test_loss=None))
    assert OutcomeStore(tmp_path).obtain("k", lost, judged().data, ("loss-gap",), device="cpu") == {"loss-gap": None}


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "outcomes").write_text("a file")
    with pytest.raises(InvalidInput, match=r"cannot write .*outcomes: .*; choose another folder with --cache-dir"):
        OutcomeStore(tmp_path).obtain("k", trained(), judged().data, ("gap",), device="cpu")
