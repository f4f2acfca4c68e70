"""Networks of one's own, from a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from sharpbench.errors import InvalidInput
from sharpbench.models.file import File, parse_file_model

CODE = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

def broken():
    raise RuntimeError("no such\\nlayer")

def number():
    return 5

def leaves():
    import sys
    sys.exit()

constant = 7
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "net.py"
    file.write_text(CODE)
    return file


def test_the_word_is_file_and_function(path: Path) -> None:
    model = parse_file_model(f"{path}:make")
    assert model == File(str(path), "make")
    module = File(str(path), "make").build((1, 28, 28), 10)
    assert isinstance(module, nn.Sequential)
    assert parse_file_model("timm:resnet18") is None
    assert parse_file_model("lenet") is None
    for word in ("net.py", "net.py:", "net.py:os.system"):
        with pytest.raises(
            InvalidInput, match=rf"'{word}' names only a file; also name the function in it: net.py:make"
        ):
            parse_file_model(word)


def test_a_network_may_stand_in_the_file_by_itself(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n")
    model = File(str(tmp_path / "net.py"), "net")
    first, second = (model.build((1, 28, 28), 10) for _ in range(2))
    assert isinstance(first, nn.Sequential)
    assert first is not second


def test_a_file_that_reads_arguments_gets_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import argparse\nfrom torch import nn\nparser = argparse.ArgumentParser()\n"
    code += "parser.add_argument('--width', type=int, default=3)\nwidth = parser.parse_args().width\n"
    code += "def make(): return nn.Linear(parser.parse_args().width, width)\n"
    (tmp_path / "net.py").write_text(code)
    words = ["sharpbench", "measure", "--width", "5"]
    monkeypatch.setattr("sys.argv", words)
    module = File(str(tmp_path / "net.py"), "make").build((3,), 3)
    assert next(module.parameters()).shape == (3, 3)
    assert sys.argv is words


def test_the_file_is_read_anew_when_it_changes(path: Path) -> None:
    model = File(str(path), "make")
    before = model.sha256
    path.write_text(CODE.replace("784, 10", "784, 11"))
    assert model.sha256 != before
    assert model.build((1, 28, 28), 10)[1].out_features == 11  # type: ignore[index]


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        ("mke", r"has no function 'mke'; it has nn, make, broken|has no function 'mke'; it has make, broken, number"),
        ("constant", "has no function 'constant'"),
        ("broken", r"broken\(\)' raises RuntimeError: no such layer"),
        ("leaves", r"leaves\(\)' raises SystemExit"),
        ("number", r"number\(\)' returns 5, not a torch.nn.Module"),
    ],
)
def test_functions_that_make_no_network(path: Path, factory: str, line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        File(str(path), factory).build((1, 28, 28), 10)


def test_a_file_may_import_timm_which_the_models_do_not(path: Path) -> None:
    path.write_text("import timm\ndef make(): return timm.create_model('test_resnet', num_classes=3)\n")
    code = (
        "import sys; from sharpbench.models.file import File; print('timm' in sys.modules);"
        f"print(File({str(path)!r}, 'make').build((3, 8, 8), 3).num_classes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n3\n"


def test_files_that_cannot_be_executed(path: Path, tmp_path: Path) -> None:
    path.write_text("import nowhere_to_be_found")
    with pytest.raises(InvalidInput, match=r"net.py' fails to import: ModuleNotFoundError: No module named"):
        File(str(path), "make").build((1,), 1)
    with pytest.raises(InvalidInput, match=r"there is no file '.*none.py'; name a Python file and its function"):
        File(str(tmp_path / "none.py"), "make").build((1,), 1)
