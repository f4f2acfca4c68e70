"""The identity of code that is not part of sharpbench."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from sharpbench.core.code_identity import describe_code
from sharpbench.core.registry import available
from sharpbench.models import SmallMlp, Timm
from sharpbench.training.optimizers import Sam, Sgd

NET = """
from dataclasses import dataclass
from torch import nn
from sharpbench import Model
{imports}
@dataclass(frozen=True)
class Net(Model):
    name, title, source = "{name}", "a net", "me"
    def build(self, shape, classes):
        return {body}

MODELS = (Net,)
"""


def plugin_model(path: Path, name: str, *, body: str = "nn.Flatten()", imports: str = "") -> object:
    path.parent.mkdir(exist_ok=True)
    path.write_text(NET.format(name=name, body=body, imports=imports))
    return available("models", [path]).classes[name]()


def test_code_of_ours_has_no_identity() -> None:
    assert describe_code([SmallMlp(), Sgd(), Sam()]) is None


def test_an_edited_plugin_is_another_and_a_moved_one_the_same(tmp_path: Path) -> None:
    first = describe_code([plugin_model(tmp_path / "a" / "net.py", "net-one")])
    moved = describe_code([plugin_model(tmp_path / "b" / "net.py", "net-one")])
    edited = describe_code([plugin_model(tmp_path / "c" / "net.py", "net-one", body="nn.Identity()")])
    assert first is not None
    assert first.startswith("source ")
    assert first == moved != edited


def test_a_module_that_the_plugin_uses_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for number, width in enumerate((3, 4)):
        (tmp_path / f"layers_{number}.py").write_text(f"WIDTH = {width}\n")
        imports = f"import layers_{number} as layers"
        found.append(describe_code([plugin_model(tmp_path / f"net_{number}.py", "net-two", imports=imports)]))
    texts = [(tmp_path / f"net_{number}.py").read_text().replace(f"_{number}", "") for number in range(2)]
    assert texts[0] == texts[1]
    assert found[0] != found[1]


def test_versions_of_timm_and_torchvision_count() -> None:
    timm, torchvision = (f"{name} {importlib.metadata.version(name)}" for name in ("timm", "torchvision"))
    assert describe_code([Timm("test_resnet", size=32)], Timm("test_resnet", size=32).libraries) == timm
    assert describe_code([], Timm("test_resnet").libraries) == f"{timm}, {torchvision}"


def test_a_plugin_that_takes_networks_of_timm_states_its_version(tmp_path: Path) -> None:
    model = plugin_model(tmp_path / "net.py", "net-three", imports="import timm")
    assert f"timm {importlib.metadata.version('timm')}" in str(describe_code([model]))
