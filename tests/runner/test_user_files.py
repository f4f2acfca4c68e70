"""`sharpbench measure` and `symmetry` on networks and loaders of the user's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sharpbench.cli.main import main

FILES = {
    "net.py": """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 7)
    def forward(self, ids, scale):
        return {"logits": self.head(torch.relu(self.hidden(self.embed(ids) * scale)))}
def make():
    return Net(), lambda model, inputs: model(inputs["ids"], inputs["scale"])["logits"]
def bare():
    return Net()
def linear():
    return torch.nn.Linear(5, 2)
def wrong():
    return Net(), 3
""",
    "loud.py": """
import torch
class Loud(torch.nn.Linear):
    def forward(self, inputs):
        print("noise of a network")
        return super().forward(inputs)
def make():
    print("noise of a function")
    return Loud(5, 2)
print("noise of a file")
""",
    "data.py": """
import torch
def make():
    ids = torch.arange(24).reshape(4, 6) % 7
    labels = ids.roll(-1, 1)
    labels[:, -1] = -100
    both = {"ids": ids, "scale": torch.linspace(0.5, 2.0, 4).view(4, 1, 1)}
    return [{**{key: value[i:i + 2] for key, value in both.items()}, "labels": labels[i:i + 2]} for i in (0, 2)]
def number():
    return 3
def numbers():
    return [(torch.ones(3, 5), torch.zeros(3, 2))]
def fails():
    raise ValueError("no such file")
def tracked():
    return [(torch.ones(3, 5, requires_grad=True), torch.zeros(3, dtype=torch.int64))]
def half():
    return [(torch.ones(3, 5, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.int64))]
def elsewhere():
    return [(torch.ones(3, 5, device="meta"), torch.zeros(3, dtype=torch.int64))]
def mixed():
    return [(torch.ones(3, 5), torch.zeros(3)), ({"x": torch.ones(3, 5)}, torch.zeros(3))]
""",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["sharpbench", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.usefixtures("folder")
def test_a_model_with_forward_on_a_loader_of_dictionaries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("measure", "--model", "net.py:make", "--data", "data.py:make", "--measures", "ggn-trace", "--json")
    assert run(monkeypatch, *words, "--parameters", "h*", "--group-by", "kind", "--dtype", "float64") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert list(record["parts"]) == ["mlp", "head"]
    assert sum(record["parts"].values()) == pytest.approx(record["value"])
    assert record["recipe"]["parameters"] == "h*"
    assert record["data"]["examples"] == 4

    scope: dict[str, object] = {}
    for text in FILES.values():
        exec(text, scope)
    torch.manual_seed(0)
    model = scope["Net"]().double()  # type: ignore[operator]
    ids = torch.arange(24).reshape(4, 6) % 7
    logits = model(ids, torch.linspace(0.5, 2.0, 4).double().view(4, 1, 1))["logits"][:, :-1].detach()
    wanted, right = (
        F.cross_entropy(logits.transpose(1, 2), ids[:, 1:]),
        (logits.argmax(2) == ids[:, 1:]).double().mean(),
    )
    assert record["truth"]["loss"] == pytest.approx(float(wanted), rel=1e-6)
    assert record["truth"]["accuracy"] == pytest.approx(float(right), rel=1e-6)


@pytest.mark.usefixtures("folder")
def test_symmetry_follows_the_inputs_of_a_loader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "symmetry", "net.py:make", "--data", "data.py:make") == 0
    shown = capsys.readouterr().out
    assert "layer: 2 scales" in shown
    assert "embed against hidden.weight" in shown


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("model", "data", "options", "line"),
    [
        ("net.py:bare", "data.py:make", (), "the network returns a dict; expected a tensor; give forward="),
        ("net.py:wrong", "data.py:make", (), "not a torch.nn.Module or (module, forward)"),
        ("lenet", "data.py:make", (), "model 'lenet' takes one tensor and the data give several"),
        ("net.py:make", "data.py:number", (), "'data.py:number()' returns 3, not a loader of batches"),
        ("net.py:make", "data.py:fails", (), "'data.py:fails()' raises ValueError: no such file"),
        (
            "net.py:linear",
            "data.py:elsewhere",
            (),
            "inputs are not a plain dense tensor (on the device 'meta')",
        ),
        (
            "net.py:linear",
            "data.py:mixed",
            (),
            "different shapes, inputs of shape [1, 5] and type torch.float32 and inputs['",
        ),
        ("net.py:make", "data.py", (), "names only a file; also name the function in it: data.py:make"),
        ("net.py:make", "data.py:make", ("--split", "test"), "gives one set of examples; leave out --split"),
        ("net.py:make", "data.py:make", ("--group-by", "depth"), "--group-by 'depth' is unknown; use layer or kind"),
        ("net.py:make", "data.py:make", ("--parameters", "*lora*"), "parameters=['*lora*'] are not in the network"),
        ("net.py:make", "data.py:make", ("--loss", "hinge"), "--loss 'hinge' is unknown; use cross_entropy, mse, b"),
        ("net.py:make", "data.py:make", ("--mean", "0", "--std", "1"), "mean and std are for images"),
    ],
)
def test_what_a_users_files_do_not_give_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    data: str,
    options: tuple[str, ...],
    line: str,
) -> None:
    words = ("measure", "--model", model, "--data", data, "--measures", "parameter-norm", *options)
    assert run(monkeypatch, *words) == 2
    said = capsys.readouterr().err.strip()
    assert line in said.replace("\n", " ")
    assert said.count("\n") == 0


@pytest.mark.usefixtures("folder")
def test_a_loader_may_give_tensors_of_any_kind_that_is_on_some_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("measure", "--model", "net.py:linear", "--measures", "gradient-norm", "--json", "--data")
    values = []
    for data in ("data.py:tracked", "data.py:half"):
        assert run(monkeypatch, *words, data) == 0
        values.append(json.loads(capsys.readouterr().out)[0]["value"])
    assert values[0] == pytest.approx(values[1])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["measure", "doctor"])
def test_what_users_code_prints_is_not_among_the_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = ("--model", "loud.py:make", "--data", "data.py:tracked", "--measures", "gradient-norm", "--json")
    assert run(monkeypatch, command, *words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)
    for noise in ("file", "function", "network"):
        assert f"noise of a {noise}" in said.err


@pytest.mark.usefixtures("folder")
def test_regression_has_a_loss_and_no_accuracy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("measure", "--model", "net.py:linear", "--data", "data.py:numbers", "--measures", "parameter-norm")
    assert run(monkeypatch, *words, "--loss", "mse") == 0
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "of file:data.py:numbers, inputs as they are: loss" in shown
    assert "accuracy" not in shown
