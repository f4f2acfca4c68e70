"""The tracker in a training loop: it changes nothing, keeps its budget, and no fault of a measure ends the training."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sharpbench
from sharpbench import InvalidInput, Tracker
from sharpbench.tracking import budget as budgets
from sharpbench.tracking.rows import read_rows

INPUTS, TARGETS = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


class Noisy(nn.Module):
    """Dropout, BatchNorm, a counter that every forward pass changes, and a parameter that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.last = nn.Linear(8, 3)
        self.first.bias.requires_grad_(False)
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.last(self.drop(torch.tanh(self.norm(self.first(inputs)))))
        return out


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def make_tracker(model: nn.Module, **options: Any) -> Tracker:
    given = {"measures": "gradient-norm", "every": 1, "budget": None, **options}
    return Tracker(model, "cross_entropy", (INPUTS, TARGETS), **given)


def train_noisy(tracked: bool) -> tuple[list[Tensor], object]:
    """The weights, buffers and gradients of a loop that draws random numbers, and what the generators draw next."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = Noisy()
    optimizer = torch.optim.Adam((each for each in model.parameters() if each.requires_grad), lr=0.01)
    scaler = torch.amp.GradScaler("cpu")
    order = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(INPUTS, TARGETS), batch_size=8, shuffle=True, generator=order
    )
    names = "top-eigenvalue,critical-sharpness,batch-sharpness[size=8,batches=2],preconditioned-sharpness,ggn-trace"
    tracker = Tracker(model, "cross_entropy", loader, measures=names, every=2, optimizer=optimizer, budget=None)
    for step in range(4):
        for inputs, targets in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(model(inputs + random.random() + float(np.random.rand())), targets)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                if tracked:
                    tracker.step(step)
    if tracked:
        frame = tracker.frame
        assert list(frame["step"]) == [0, 2]
        assert not frame.drop(columns="share").isna().any().any(), list(frame["notes"])
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    drawn = random.random(), float(np.random.rand()), float(torch.rand(1)), float(torch.rand(1, generator=order))
    return [*model.state_dict().values(), *gradients], (drawn, model.calls, model.training, model.drop.training)


def test_a_tracked_loop_ends_bit_for_bit_where_an_untracked_one_does() -> None:
    plain, tracked = train_noisy(False), train_noisy(True)
    assert plain[1] == tracked[1]
    assert len(plain[0]) == len(tracked[0])
    assert all(torch.equal(one, other) for one, other in zip(plain[0], tracked[0], strict=True))


def test_the_values_are_those_of_the_present_weights() -> None:
    model = make_model()
    tracker = make_tracker(model, measures="gradient-norm,ggn-trace,top-eigenvalue[tolerance=1e-5]")
    for step in range(3):
        row = tracker.step(step)
        assert row is not None
        subject = sharpbench.Subject.from_module(model, INPUTS, TARGETS)
        assert row["ggn-trace"] == pytest.approx(sharpbench.measure("ggn-trace", subject).value, rel=1e-5)
        top = sharpbench.measure("top-eigenvalue", subject).value
        assert row["top-eigenvalue[tolerance=1e-05]"] == pytest.approx(top, rel=1e-4)
        with torch.no_grad():
            model[0].weight.mul_(1.3)  # type: ignore[index,union-attr,operator]
    assert tracker.estimates[1]["top-eigenvalue[tolerance=1e-05]"].details["start"] == "warm"


def test_a_network_that_changes_its_code_its_parts_or_what_is_trained_is_measured_anew() -> None:
    model = make_model()
    tracker = make_tracker(model, measures="ggn-trace")

    def compare() -> None:
        row, subject = tracker.step(), sharpbench.Subject.from_module(model, INPUTS, TARGETS)
        assert row is not None
        assert row["notes"] == ""
        assert row["ggn-trace"] == pytest.approx(sharpbench.measure("ggn-trace", subject).value, rel=1e-5)

    compare()
    model[1] = nn.ReLU()  # type: ignore[index,operator]
    compare()
    model.append(nn.Linear(3, 3))  # type: ignore[operator]
    compare()
    model[0].weight.requires_grad_(False)  # type: ignore[index,union-attr,operator]
    compare()
    model.double().float()
    compare()


def test_steps_that_are_due() -> None:
    tracker = make_tracker(make_model(), every=10)
    measured = [step for step in (3, 4, 9, 10, 11, 25, 29, 30, 2, 5) if tracker.step(step) is not None]
    assert measured == [3, 10, 25, 30, 2]  # a loop that begins again is measured again
    assert [make_tracker(make_model()).step() is not None for _ in range(2)] == [True, True]


def test_the_budget_is_kept_by_measuring_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(budgets.time, "perf_counter", lambda: now[0])
    tracker = make_tracker(make_model(), budget=0.05)
    evaluate = tracker._evaluate

    def slow(number: int) -> Any:
        now[0] += 1.0
        return evaluate(number)

    monkeypatch.setattr(tracker, "_evaluate", slow)
    for step in range(200):
        tracker.step(step)
        now[0] += 1.0
    frame = tracker.frame
    assert list(frame["step"]) == [0, 40, 60, 80, 100, 120, 140, 160, 180]
    assert list(frame["skipped"])[:3] == [0, 39, 19]
    assert max(frame["share"][1:]) <= 0.05


def test_names_of_parameters_may_be_an_iterator() -> None:
    model = make_model()
    names = [name for name, _ in model.named_parameters()][:1]
    one, other = make_tracker(model, parameters=iter(names), every=1), make_tracker(model, parameters=names, every=1)
    for _ in range(2):
        row, wanted = one.step(), other.step()
        assert row is not None
        assert wanted is not None
        assert row["gradient-norm"] == wanted["gradient-norm"]


def test_without_a_limit_a_loader_is_read_for_its_first_examples_and_a_batch_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sharpbench.tracking.tracker.MAX_EXAMPLES", 8)
    loader = [(INPUTS[start : start + 6], TARGETS[start : start + 6]) for start in range(0, 24, 6)]
    read = Tracker(make_model(), "cross_entropy", loader, measures="gradient-norm").step()
    rows = [make_tracker(make_model(), limit=limit).step() for limit in (8, None, len(INPUTS))]
    assert read is not None
    first, whole, every = (row["gradient-norm"] for row in rows if row is not None)
    assert read["gradient-norm"] == first != whole == every


def test_a_limit_holds_for_a_batch_also() -> None:
    few = Tracker(make_model(), "cross_entropy", (INPUTS[:10], TARGETS[:10]), measures="gradient-norm").step()
    limited = make_tracker(make_model(), limit=10).step()
    assert few is not None
    assert limited is not None
    assert limited["gradient-norm"] == few["gradient-norm"]


def test_what_a_sink_takes_counts_as_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Slow:
        def log(self, *args: object, **named: object) -> None:
            now[0] += 4.0

    monkeypatch.setattr(budgets.time, "perf_counter", lambda: now[0])
    tracker = make_tracker(make_model(), measures="gradient-norm", sinks=[Slow()], budget=0.5)
    for step in range(20):
        tracker.step(step)
        now[0] += 1.0
    assert list(tracker.frame["step"]) == [0, 16]


def test_steps_that_a_gpu_still_computes_count_as_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def synchronize() -> None:
        now[0] += 3.0

    monkeypatch.setattr(budgets.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    tracker = make_tracker(make_model(), measures="gradient-norm", every=2)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(tracker, "_evaluate", lambda number: ({}, {}))
    for step in range(3):
        tracker.step(step)
    assert list(tracker.frame["seconds"]) == [0.0, 0.0]
    assert tracker._budget.training == 3.0


def test_weights_that_are_not_finite_are_noted_and_the_loop_goes_on() -> None:
    model = make_model()
    tracker = make_tracker(model, measures="gradient-norm,top-eigenvalue,critical-sharpness")
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))  # type: ignore[index,union-attr,operator]
    row = tracker.step()
    assert row is not None
    assert row["gradient-norm"] is None
    assert "weights are not finite: 0.weight" in str(row["notes"])
    with torch.no_grad():
        model[0].weight.fill_(1.0)  # type: ignore[index,union-attr,operator]
        model[2].weight.fill_(3e38)  # type: ignore[index,union-attr,operator]
    row = tracker.step()
    assert row is not None
    assert "top-eigenvalue: " in str(row["notes"])
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.1)
    row = tracker.step()
    assert row is not None
    assert row["gradient-norm"] is not None


def test_learning_rates_are_read_at_each_step() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.2}], lr=0.1
    )  # type: ignore[index]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    tracker = make_tracker(model, optimizer=optimizer)
    for step in range(2):
        tracker.step(step)
        optimizer.step()
        schedule.step()
    assert list(tracker.frame["learning_rate"]) == [0.2, 0.1]
    assert list(tracker.frame["2/eta"]) == pytest.approx([10.0, 20.0])
    optimizer.param_groups[1]["lr"] = optimizer.param_groups[0]["lr"] = 0.0
    row = tracker.step()
    assert row is not None
    assert row["2/eta"] is None
    assert row["bound"] is None


def test_a_measure_that_raises_is_noted_and_an_interrupt_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = make_tracker(make_model(), measures="gradient-norm,batch-sharpness[size=100]")
    row = tracker.step()
    assert row is not None
    assert row["gradient-norm"] is not None
    assert "batch-sharpness[size=100]: a batch of 100 examples is larger than the 24" in str(row["notes"])
    state = torch.get_rng_state()

    def interrupt(number: int) -> None:
        torch.rand(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker, "_evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tracker.step()
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    monkeypatch.undo()
    assert tracker.step() is not None


def test_it_measures_in_no_grad_inference_mode_and_autocast() -> None:
    tracker = make_tracker(make_model(), measures="top-eigenvalue[tolerance=1e-4]")
    plain = tracker.step()
    assert plain is not None
    for manager in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with manager:
            row = tracker.step()
        assert row is not None
        assert row["top-eigenvalue[tolerance=0.0001]"] == pytest.approx(
            plain["top-eigenvalue[tolerance=0.0001]"], rel=1e-5
        )


def test_wrapped_networks_have_the_values_of_the_network_inside_and_one_rank_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_tracker(make_model()).step()
    compiled = torch.compile(make_model(), backend="eager")
    compiled(INPUTS)
    assert wanted is not None
    assert make_tracker(compiled).step()["gradient-norm"] == wanted["gradient-norm"]  # type: ignore[index,arg-type]
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(make_model())
        tracker = make_tracker(wrapped, optimizer=torch.optim.SGD(wrapped.parameters(), lr=0.1))
        nn.functional.cross_entropy(wrapped(INPUTS), TARGETS).backward()
        gradients = [value.grad.clone() for value in wrapped.parameters() if value.grad is not None]
        assert tracker.step()["gradient-norm"] == wanted["gradient-norm"]  # type: ignore[index]
        assert all(map(torch.equal, gradients, [value.grad for value in wrapped.parameters()]))
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        assert tracker.step(1) is None
    finally:
        torch.distributed.destroy_process_group()


def test_data_is_a_batch_a_dictionary_a_loader_or_a_generator() -> None:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, 24, 8):
            yield INPUTS[start : start + 8], TARGETS[start : start + 8]

    wanted = make_tracker(make_model()).step()
    assert wanted is not None
    whole: list[tuple[object, dict[str, Any]]] = [
        ((INPUTS, TARGETS), {}),
        ([INPUTS, TARGETS], {}),
        ({"x": INPUTS, "labels": TARGETS}, {"forward": lambda model, batch: model(batch["x"])}),
        (list(batches()), {}),
        (batches(), {}),
    ]
    for data, options in whole:
        tracker = Tracker(make_model(), "cross_entropy", data, measures="gradient-norm", **options)
        row = tracker.step()
        assert row is not None
        assert row["gradient-norm"] == pytest.approx(wanted["gradient-norm"])
    row = Tracker(make_model(), "cross_entropy", batches(), measures="gradient-norm", limit=8).step()
    first = Tracker(make_model(), "cross_entropy", (INPUTS[:8], TARGETS[:8]), measures="gradient-norm").step()
    assert row is not None
    assert first is not None
    assert row["gradient-norm"] == first["gradient-norm"]


def test_two_trackers_and_a_pickled_one_find_the_same() -> None:
    model = make_model()
    one, two = make_tracker(model), make_tracker(model)
    assert one.step(0)["gradient-norm"] == two.step(0)["gradient-norm"]  # type: ignore[index]
    other: Tracker = pickle.loads(pickle.dumps(one))
    assert other.step(1)["gradient-norm"] == one.step(1)["gradient-norm"]  # type: ignore[index]
    assert len(other.frame) == 2


def test_the_rows_outlive_the_block_and_an_error_in_it() -> None:
    tracker = make_tracker(make_model())

    def train() -> None:
        with tracker:
            tracker.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert len(tracker.frame) == 1


def test_rows_go_to_files_and_objects_and_a_sink_that_fails_is_left_out_once(tmp_path: Path) -> None:
    class Writer:
        def __init__(self) -> None:
            self.found: list[tuple[str, float, int]] = []

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            self.found.append((tag, value, step))

    class Run:
        def log(self, values: dict[str, float]) -> None:
            raise OSError("disk full")

    writer, table = Writer(), tmp_path / "deep" / "track.csv"
    sinks = [str(tmp_path / "track.jsonl"), table, writer, Run()]
    tracker = make_tracker(make_model(), sinks=sinks)
    with pytest.warns(RuntimeWarning, match="stops writing to Run: OSError: disk full"):
        tracker.step(5)
    tracker.step(6)
    assert [each[::2] for each in writer.found if "norm" in each[0]] == [
        ("sharpness/gradient-norm", 5),
        ("sharpness/gradient-norm", 6),
    ]
    for path in (tmp_path / "track.jsonl", table):
        rows = read_rows(path)
        assert [row["step"] for row in rows] == [5, 6]
        assert [row["gradient-norm"] for row in rows] == list(tracker.frame["gradient-norm"])
    with pytest.warns(RuntimeWarning, match="has other columns than this tracker"):
        make_tracker(make_model(), measures="ggn-trace", sinks=table).step()


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model = make_model()
    for options, message in (
        ({"every": 0}, "every=0"),
        ({"budget": 2}, "budget=2"),
        ({"budget": 0}, "budget=0"),
        ({"measures": "sharpnes"}, "unknown measure 'sharpnes'"),
        ({"measures": ()}, "measures= names none"),
        ({"measures": [3]}, "measures= holds a int"),
        ({"sinks": "track.txt"}, "end the file's name in .jsonl or .csv"),
        ({"sinks": 3}, "sinks= holds a int"),
        ({"optimizer": "adam"}, "optimizer= is a str"),
        ({"parameters": "nowhere"}, "nowhere"),
    ):
        with pytest.raises(InvalidInput, match=message):
            make_tracker(model, **options)
    with pytest.raises(InvalidInput, match="data is a int"):
        Tracker(model, "cross_entropy", 3)
    with pytest.raises(InvalidInput, match="loss 'huge' is unknown"):
        Tracker(model, "huge", (INPUTS, TARGETS))


def test_the_figure_has_a_panel_for_each_kind_and_the_line() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = make_tracker(
        model, measures="top-eigenvalue,critical-sharpness,gradient-norm,preconditioned-sharpness", optimizer=optimizer
    )
    empty = tracker.plot()
    assert len(empty.axes) == 1
    for step in range(2):
        tracker.step(step)
    figure = tracker.plot()
    lines = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    assert lines == [
        ["top-eigenvalue", "critical-sharpness", "2/eta"],
        ["gradient-norm"],
        ["preconditioned-sharpness", "bound"],
    ]


def test_a_later_measurement_looks_at_the_network_once_per_derivative() -> None:
    """What does not depend on the weights (operators, graph, whether examples mix) is not looked at again."""
    model = make_model()
    tracker = make_tracker(model, measures="top-eigenvalue")
    tracker.step(0)
    with torch.no_grad():
        model[0].weight.mul_(1.1)
    passes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    tracker.step(1)  # another form of the network: all is looked at
    passes.clear()
    with torch.no_grad():
        model[0].weight.mul_(1.1)
    tracker.step(2)
    assert passes == [24, 24]  # the gradient with its graph, and the loss
    assert list(tracker.frame["notes"]) == [""] * 3
