"""`sharpbench symmetry` through the front door."""

from __future__ import annotations

import json

import pytest

from tests.commands import given, refused


def test_it_prints_dimensions_generators_and_the_verification() -> None:
    result = given("symmetry", "lenet")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("layer: 4 scales; outputs change by ")
    assert float(lines[0].split()[6]) < 1e-12
    assert lines[1] == "  layer0 against layer1.weight"
    assert lines[5].startswith("unit: 226 scales")
    assert "  120 x layer2 against layer3.weight" in lines
    assert lines[-1] == "unknown operators, whose inputs and weights are not rescaled: none"


def test_json_is_one_object() -> None:
    result = given("symmetry", "small-mlp[bias=false]", "--json", "--shape", "1x8x8", "--classes", "3")
    found = json.loads(result.stdout)
    assert (found["model"], found["pinned"]) == ("small-mlp[bias=false]", [])
    assert found["layer"]["dimension"] == len(found["layer"]["generators"])
    assert found["unit"]["dimension"] > found["layer"]["dimension"]
    assert 0 < found["unit"]["change"] < 1e-12


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("lenett",), "unknown model 'lenett'; did you mean 'lenet'?"),
        (("lenet", "--shape", "1x"), "--shape '1x' must be whole numbers above 0, like 1x28x28"),
        (("lenet", "--shape", "1x0x28"), "--shape '1x0x28' must be whole numbers above 0"),
        (("lenet", "--shape", "1x2x2"), "takes images of at least 1x15x15"),
        (("lenet", "--classes", "0"), "--classes 0 must be at least 1"),
        (("lenet", "--seed", str(2**64)), "--seed 18446744073709551616 must be from 0 to 18446744073709551615"),
        (("lenet", "--seed", "-1"), "--seed -1 must be from 0 to"),
        (("lenet", "--shape", "3x99999x99999"), "--shape '3x99999x99999' must be at most 4,194,304 numbers"),
        (("lenet", "--shape", "9" * 5000), "must be at most 4,194,304 numbers"),
        (("mlp", "--classes", str(10**17)), "model 'mlp' cannot be built for --shape 1x28x28 and --classes 1000"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words: tuple[str, ...], expected: str) -> None:
    refused(given("symmetry", *words), expected)
