"""Which measures work on which networks of timm, one of every family; writes docs/support.md.

    python benchmarks/support.py                 # cells without a record, an hour on one core; then the page
    python benchmarks/support.py resnet18        # one network again
    python benchmarks/support.py --page          # only the page

Each network takes eight of the embedded digits through its own transform, at its own input size, with 10 classes and
random weights, scales and norm statistics perturbed so that every parameter has an effect. Each runs in its own
process with a time limit; one that dies or does not end loses only its own rows. Records go to
leaderboard/support.jsonl. Nothing is downloaded.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sharpbench import InvalidInput, Record
from sharpbench.core.records import iterate_records
from sharpbench.core.spec import format_spec
from sharpbench.datasets import Digits, Subset
from sharpbench.environment import apply_settings, import_timm
from sharpbench.models import Timm
from sharpbench.report.escape import escape_cell, markdown_table, numbered_list, wrap_text
from sharpbench.runner.evaluate_cell import evaluate_measure
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights
from sharpbench.runner.network_record import network_record
from sharpbench.runner.network_subject import make_subject
from sharpbench.runner.plan import select_measures

NETWORKS = """
    test_byobnet test_coatnet test_convnext test_convnext2 test_convnext3 test_efficientnet test_efficientnet_evos
    test_efficientnet_gn test_efficientnet_ln test_mambaout test_maxvit test_nfnet test_resnet test_vit test_vit2
    test_vit3 test_vit4 test_vit_relpos botnet26t_256 repvgg_a0 gernet_s cait_xxs24_224 coat_lite_tiny convit_tiny
    convnext_atto crossvit_tiny_240 cspresnet50 davit_tiny deit_tiny_patch16_224 densenet121 dla34 dpn68
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientvit_b0 efficientvit_m0
    eva02_tiny_patch14_224 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 hardcorenas_a
    hgnetv2_b0 hiera_tiny_224 hrnet_w18_small inception_next_atto levit_128s mambaout_femto maxvit_rmlp_pico_rw_256
    poolformer_s12 mixer_s32_224 gmlp_ti16_224 mobilenetv3_small_050 mobilenetv2_050 mobilevit_xxs pit_ti_224
    pvt_v2_b0 regnety_002 repghostnet_050 repvit_m1 resnest14d resnet18 resnetv2_18 rexnet_100 selecsls42
    legacy_seresnet18 shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 tiny_vit_5m_224
    tnt_s_legacy_patch16_224 vgg11 visformer_tiny vit_tiny_patch16_224 xcit_nano_12_p16_224 cpubone_nano
    cspnext_tiny efficientvim_m1 lcnetv2_small lowformer_b0 iformer_s beit_base_patch16_224
    vit_relpos_small_patch16_224 vitamin_small_224 nextvit_small tresnet_m vovnet39a inception_v3 legacy_xception
    xception41 convmixer_768_32 darknet17 sequencer2d_s volo_d1_224 inception_v4 mvitv2_tiny nf_resnet26
    res2net50_14w_8s swinv2_cr_tiny_ns_224 swinv2_tiny_window8_256 vit_tiny_r_s16_p8_224 nest_tiny rdnet_tiny
    twins_svt_small
"""
MEASURES = "trace[method=exact],ggn-trace,fisher-rao,minimum,minimum[scope=unit],normalized,adaptive"
TIMEOUT_SECONDS = 600
"""The time limit of one network, in seconds."""
RECORDS = Path(__file__).parents[1] / "leaderboard" / "support.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "support.md"


def build(name: str, examples_shape: tuple[int, ...]) -> nn.Module:
    """The network with random weights; scales, shifts and norm statistics perturbed."""
    torch.manual_seed(0)
    module = Timm(name).build(examples_shape, 10)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in module.parameters():
            if value.ndim <= 1 or not bool(value.any()):
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
        for key, buffer in module.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.3, generator=generator)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=generator)
    return module


def measured(name: str, words: str) -> Iterator[Record]:
    """The records of one network."""
    apply_settings("cpu", 1)
    model = Timm(name)
    evaluation = NetworkEvaluation(
        model=model,
        measures=select_measures(words),
        dataset=Digits(),
        subset=Subset(limit=8),
    )
    examples = evaluation.dataset.examples(None, evaluation.subset, model.transform())
    state = NetworkWeights("perturbed", "", build(name, tuple(examples.inputs.shape[1:])))
    subject = make_subject(evaluation, state, examples)
    family = import_timm().models.model_entrypoint(name).__module__.rpartition(".")[2]
    truth = {"family": family, "parameters": subject.size, "shape": "x".join(map(str, examples.inputs.shape[1:]))}
    for measure in evaluation.measures:
        empty = network_record(evaluation, measure, state, {"sha256": "", "examples": 8, "leaderboard": False}, truth)
        yield evaluate_measure(measure, subject, subject, empty, evaluation.checks)


def run(name: str, words: str) -> list[Record]:
    """The records of one network, measured in its own process; missing ones count as failed."""
    command = [sys.executable, __file__, "--one", name, words]
    found: list[Record] = []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        lines, why = done.stdout, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired as late:
        lines, why = (late.stdout or b"").decode(), f"did not end within {TIMEOUT_SECONDS} s"
    found = [Record.from_json(line, where=name) for line in lines.splitlines() if line.startswith("{")]
    known = {record.label for record in found}
    evaluation = NetworkEvaluation(model=Timm(name), measures=select_measures(words), dataset=Digits())
    state = NetworkWeights("perturbed", "", nn.Identity())
    for measure in evaluation.measures:
        if format_spec(measure) not in known:
            empty = network_record(evaluation, measure, state, {"sha256": "", "leaderboard": False}, {"family": "?"})
            found.append(replace(empty, status="timeout" if "did not end" in why else "failed", reason=why[:300]))
    return found


def page(records: Sequence[Record]) -> str:
    """docs/support.md."""
    last: dict[str, dict[str, Record]] = {}
    for record in records:
        last.setdefault(_name(record), {})[record.label] = record
    labels = list(dict.fromkeys(record.label for record in records))
    rows, reasons = [], Counter[str]()
    for name, row in sorted(last.items()):
        first = next(iter(row.values()))
        certified = next((r.details["certified"] for r in row.values() if "certified" in r.details), None)
        pinned = next((r.details["pinned"] for r in row.values() if r.details.get("pinned")), "")
        size = first.truth.get("parameters")
        cells = [
            escape_cell(name),
            escape_cell(first.truth["family"]),
            f"{size / 1e6:.1f}" if isinstance(size, int) else "-",
        ]
        cells.append("-" if not isinstance(certified, int | float) else f"{certified:.0%}")
        for each in labels:
            record = row.get(each)
            cells.append("-" if record is None else _mark(record, reasons))
        rows.append([*cells, escape_cell(pinned, 80)])
    families = {str(next(iter(row.values())).truth["family"]) for row in last.values()} - {"?"}
    header = ["network", "family", "M params", "certified", *labels, "pinned operators"]
    works = {each: sum(row[each].status == "ok" for row in last.values() if each in row) for each in labels}
    either = sum(any(row[each].status == "ok" for each in labels[:2] if each in row) for row in last.values())
    summary = "; ".join(f"`{each}` {count} of {len(last)}" for each, count in works.items())
    what = (
        f"{len(last)} networks of {len(families)} families of timm, each at its own input size with 10 classes, 8 "
        "images, random perturbed weights, float32, on one CPU core. A number is the seconds of the value next to the "
        "measures left of it, with which it shares work; other cells point to the reason below."
    )
    gives = f"Gives a number: {summary}; `trace[method=exact]` or `ggn-trace`: {either} of {len(last)}."
    return (
        "<!-- generated by benchmarks/support.py; do not edit -->\n# Support matrix\n\n"
        f"{wrap_text(what)}\n\n{wrap_text(gives)}\n\n"
        "*certified*: the share of the parameters in which the network is piecewise affine, where the trace of the "
        "Hessian is the\nGauss-Newton one. *pinned operators*: those that the rescaling group does not know.\n\n"
        f"{markdown_table([escape_cell(text) for text in header], rows, {2, 3, *range(4, 4 + len(labels))})}\n\n"
        f"{numbered_list(reasons, 400)}\n"
    )


def _name(record: Record) -> str:
    return str(record.recipe["model"]).removeprefix("timm:")


def _mark(record: Record, reasons: Counter[str]) -> str:
    if record.status == "ok":
        return f"{record.shared_seconds:.2g}"
    reason = f"{record.status}: {_general(record.reason or '')}"
    reasons[reason] += 1
    return f"[{list(reasons).index(reason) + 1}]"


def _general(reason: str) -> str:
    """The reason without the parts that are specific to a network."""
    return reason.partition(" (")[0].partition("; ")[0]


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    if arguments[:1] == ["--one"]:
        for record in measured(arguments[1], arguments[2]):
            print(record.to_json(), flush=True)
        return
    kept = {
        (str(record.recipe["model"]).removeprefix("timm:"), record.label): record for record in iterate_records(RECORDS)
    }
    if arguments != ["--page"]:
        wanted = [format_spec(each) for each in select_measures(MEASURES)]
        for name in arguments or NETWORKS.split():
            missing = [each for each in wanted if arguments or (name, each) not in kept]
            try:
                found = run(name, ",".join(missing)) if missing else []
            except InvalidInput as error:  # this timm has no such network
                print(f"{name}: {error}", flush=True)
                continue
            kept |= {(name, record.label): record for record in found}
            RECORDS.write_text("".join(record.to_json() + "\n" for record in kept.values()), encoding="utf-8")
            if found:
                print(name, *(f"{record.label}: {record.status}" for record in found), sep="  ", flush=True)
    PAGE.write_text(page(list(kept.values())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
