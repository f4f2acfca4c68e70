"""Everything that a machine with a GPU can tell: one command, under eight minutes, from a checkout.

    make gpu                                          # python3 benchmarks/gpu.py
    python3 benchmarks/gpu.py --device cpu --tiny     # the same steps in small, without a GPU

Nothing is installed and nothing is downloaded. The Python that runs it needs torch, and finds sharpbench in this
checkout; what a section needs and this Python lacks is named, and only that section is skipped. Each section is a
process with a time budget, writes what it has found at once, and cannot stop the others.

The output folder then holds report.json (each section's status and seconds, the device, versions, missing packages),
tests.jsonl, tables.jsonl and training.jsonl (one row per line; as tables in .md), comparison.jsonl (for `sharpbench
compare --from`), records.jsonl (as leaderboard/results/NAME.jsonl it is what `publish` reads) and log.txt. Exit status
1 where the device computes nothing, or a section failed or did not finish.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"pillow": "PIL"}
"""The module of a distribution, where it has another name."""
COMMAND = ("-c", "from sharpbench.cli.main import main; main()")
CORE = ("torch", "numpy", "scipy")
CLI = (*CORE, "pandas", "tabulate", "matplotlib", "jinja2", "rich", "typer", "safetensors", "packaging",
       "threadpoolctl")  # fmt: skip
PEERS = ("backpack", "curvlinops", "pyhessian", "hessian_eigenthings", "nngeometry", "asdl")
WRITTEN = ("report.json", "tests.jsonl", "tables.jsonl", "tables.md", "training.jsonl", "training.md",
           "comparison.jsonl", "records.jsonl", "log.txt")  # fmt: skip
"""The files of an output folder; those of an earlier run are removed at the start."""
PROBE_SECONDS = 60
"""How long the first product on the device may take, with all that it loads."""
TINY_SECONDS = 240
"""The budget of a section in small: it takes seconds, more on a busy machine."""


@dataclass(frozen=True)
class Section:
    """A part of the run: what it needs, the arguments of Python, and its budget in seconds.

    kept: the file of its output folder that is copied, by the name that it gets.
    """

    name: str
    budget: int
    needs: tuple[str, ...]
    arguments: tuple[str, ...]
    kept: tuple[str, str] | None = None


def sections(device: str, output: Path, scratch: Path, *, tiny: bool) -> list[Section]:
    """All sections, the most important first."""
    rows = ("-m", "benchmarks.gpu_tables", "--device", device, *(("--tiny",) if tiny else ()), "--output", str(output))
    parallel = () if tiny or importlib.util.find_spec("xdist") is None else ("--numprocesses", "8")
    chosen = ("-k", "without or (biases and trace)") if tiny else ()
    contestants = "trace,ggn-trace,trace[method=hutchinson,samples=10],paper-trace"
    cohort = "label-noise[ratios=2,seeds=1,train_size=32]" if tiny else "label-noise[ratios=4,seeds=6]"
    compare = (
        *("compare", "--quantity", "trace", "--models", "small-mlp" if tiny else "small-mlp,lenet,mlp"),
        *("--n", "16" if tiny else "1024", "--weights", "random", "--device", device, "--timeout", "20"),
        *("--repeats", "1" if tiny else "2", "--batches", "16" if tiny else "1024", "--measures", contestants),
        *("--output", str(scratch / "compare")),
    )
    run = (
        *("run", "--measures", "trace" if tiny else "trace,normalized,minimum,fisher-rao,adaptive-trace"),
        *("--models", "small-mlp", "--cohort", cohort, "--device", device, "--output", str(scratch / "run")),
        *("--oracle", "0", "--invariance", "0", *(("--timing", "0") if tiny else ())),  # the tests compare values
    )
    files = ("tests/cuda/test_settings.py", "tests/cuda/test_equality.py")  # the longest test first
    tests = ("-m", "pytest", "-m", "cuda", *files, "-q", "-p", "no:cacheprovider", *parallel, *chosen)
    return [
        Section("tests", 150, (*CORE, "pytest", "pytest_timeout", "pandas", "safetensors"), tests),
        Section("tables", 140, CORE, (*rows, "tables")),
        Section("training", 40, (*CORE, "safetensors"), (*rows, "training")),
        Section("compare", 70, CLI, (*COMMAND, *compare), ("compare/comparison.jsonl", "comparison.jsonl")),
        Section("run", 60, CLI, (*COMMAND, *run), ("run/records.jsonl", "records.jsonl")),
    ]


def missing_modules(names: Sequence[str]) -> list[str]:
    """The modules that this Python cannot import."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def requirements() -> dict[str, str]:
    """Module -> distribution, of all that the package requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^A-Za-z0-9_-]", entry, maxsplit=1)[0] for entry in project["dependencies"]]
    return {MODULES.get(name, name.replace("-", "_")): name for name in names}


def write_metadata(folder: Path) -> None:
    """Write the metadata of the checkout as pip would: entry points are how sharpbench finds its own measures."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "sharpbench" / "version.py").read_text(encoding="utf-8"))
    assert found is not None
    place = folder / f"sharpbench-{found[1]}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sharpbench\nVersion: {found[1]}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in points.items())]
    (place / "entry_points.txt").write_text("\n".join(lines) + "\n")


def environment(device: str, output: Path, scratch: Path) -> dict[str, str]:
    """The variables of a section: the checkout to import, folders of its own, and where tests report."""
    write_metadata(scratch / "metadata")
    folders = [scratch / "metadata", ROOT, ROOT / "measures", ROOT / "peers"]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "SHARPBENCH_CACHE": str(scratch / "cache"),
        "SHARPBENCH_TEST_DEVICE": device,
        "SHARPBENCH_TEST_REPORT": str(output / "tests.jsonl"),
    }


def run_section(section: Section, variables: dict[str, str], log: Path, budget: float) -> tuple[str, str]:
    """Status and reason: 'ok', 'failed', 'unfinished' after its budget, or 'skipped' for what is missing."""
    missing = missing_modules(section.needs)
    if missing:
        return "skipped", f"this Python has no {', '.join(missing)}"
    with log.open("ab") as stream:
        stream.write(f"\n== {section.name}\n".encode())
        stream.flush()
        child = subprocess.Popen(
            [sys.executable, *section.arguments],
            cwd=ROOT,
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = child.wait(budget)
        except subprocess.TimeoutExpired:
            return "unfinished", f"ended after its budget of {budget:.0f} s; what it had found is kept"
        finally:
            _end_group(child)
    if status == 0:
        return "ok", ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "failed", f"exit status {status}: {lines[-1][:300]}"


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End the section's processes, also those that outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


PROBE = """
import json, sys, torch
device = torch.device(sys.argv[1])
product = torch.ones(8, 8, device=device, requires_grad=True)
(product @ product).sum().backward()
found = {"name": "cpu"}
if device.type == "cuda":
    whole = torch.cuda.get_device_properties(device)
    found = {"name": whole.name, "bytes": whole.total_memory, "cuda": torch.version.cuda}
    found["cudnn"] = torch.backends.cudnn.version()
print(json.dumps(found))
"""
"""Computes on the device, and says what it is."""


def describe_device(device: str) -> dict[str, Any] | str:
    """The device's name, memory and libraries, or in one line why it computes nothing."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", PROBE, device], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_SECONDS} s"
    if answer.returncode != 0:
        return (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1][:300]
    found: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return found


def find_commit() -> str:
    """The commit of the checkout, or ''."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
        return answer.stdout.strip()
    return ""


def describe_python() -> dict[str, Any]:
    """The versions, and the required packages that are missing."""
    versions: dict[str, str] = {}
    for name in ("torch", "numpy", "timm", "pytest"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    named = requirements()
    return {
        "python": platform.python_version(),
        **versions,
        "missing": [named[module] for module in missing_modules(list(named))],
        "missing peers": missing_modules(PEERS),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small networks and few examples: a test of the script")
    parser.add_argument("--sections", default="tests,tables,training,compare,run", help="comma-separated")
    parser.add_argument("--output", type=Path, default=Path("sharpbench-results/gpu"))
    given = parser.parse_args(arguments)
    output = given.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (output / name).unlink(missing_ok=True)
    machine = describe_device(given.device)
    if isinstance(machine, str):
        print(f"error: device {given.device} computes nothing: {machine}", file=sys.stderr)
        return 1
    about = {"device": given.device, "machine": machine, "commit": find_commit(), "tiny": given.tiny}
    report: dict[str, Any] = {**about, **describe_python(), "sections": {}}
    print(f"{machine['name']}; missing packages: {', '.join(report['missing']) or 'none'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sharpbench-gpu-") as folder:
        scratch = Path(folder)
        offered = sections(given.device, output, scratch, tiny=given.tiny)
        wanted = given.sections.split(",")
        unknown = set(wanted) - {each.name for each in offered}
        if unknown:
            parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in offered)}")
        variables = environment(given.device, output, scratch)
        for section in [each for each in offered if each.name in wanted]:
            start = time.monotonic()
            budget = TINY_SECONDS if given.tiny else section.budget
            status, reason = run_section(section, variables, output / "log.txt", budget)
            if section.kept is not None and (scratch / section.kept[0]).is_file():
                shutil.copyfile(scratch / section.kept[0], output / section.kept[1])
            row = {"status": status, "seconds": round(time.monotonic() - start, 1), "reason": reason}
            report["sections"][section.name] = row
            (output / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(f"{section.name:9} {status:10} {row['seconds']:6.1f} s  {reason}", flush=True)
    return 1 if any(row["status"] in ("failed", "unfinished") for row in report["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
