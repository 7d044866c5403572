from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cryoseg import __version__
from cryoseg.config.train import LoopConfig
from cryoseg.events import Event, Note, StageProgress
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.run import Runtime, TrainingRun

LOOP = LoopConfig(steps=4, warmup_steps=0, checkpoint_every=2, validate_every=2, seed=7)


def fit(folder: Path, loop: LoopConfig, runtime: Runtime) -> tuple[TrainingRun, bool]:
    run = TrainingRun(folder, "lines", loop, runtime)
    network = nn.Linear(2, 1)
    learner = Learner(
        network=network,
        loss=lambda step: network.weight.square().sum(),
        validate=lambda trained, step: 0.25 * step,
        score_name="recall",
    )
    return run, run.fit(learner, {"config": {"max_minutes": loop.max_minutes}, "training": ["a"]})


def test_a_run_tells_every_line_and_keeps_its_record(tmp_path: Path) -> None:
    events: list[Event] = []
    run, is_finished = fit(tmp_path / "new" / "run", LOOP, Runtime(on_event=events.append))
    assert is_finished
    assert json.loads((run.folder / "config.json").read_text()) == run.record
    assert run.record == {"version": __version__, "config": {"max_minutes": None}, "training": ["a"]}
    assert [(e.name, e.done, e.total) for e in events if isinstance(e, StageProgress)] == [
        ("lines", 2, 4),
        ("lines", 4, 4),
    ]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes[0].startswith("lines  step     2  loss ")
    assert notes[1].endswith("validation recall 1.0000 (best)")
    assert run.validations == [{"step": 2, "score": 0.5}, {"step": 4, "score": 1.0}]
    step, weights = run.best()
    assert step == 4
    assert weights.keys() == {"weight", "bias"}


def test_the_seed_decides_the_start_and_a_resumed_run_says_so(tmp_path: Path) -> None:
    torch.manual_seed(LOOP.seed)
    start = nn.Linear(2, 1).weight.clone()
    torch.manual_seed(0)
    TrainingRun(tmp_path / "seed", "lines", LOOP, Runtime())
    assert torch.equal(nn.Linear(2, 1).weight, start)
    limited = LoopConfig(**{**vars(LOOP), "max_minutes": 0.0})
    events: list[Event] = []
    assert not fit(tmp_path / "run", limited, Runtime())[1]
    assert fit(tmp_path / "run", LOOP, Runtime(on_event=events.append))[1]
    assert events[0] == Note(text="lines: resuming at step 1.")
    again, is_finished = fit(tmp_path / "run", LOOP, Runtime())
    assert is_finished
    assert len(again.validations) == 2


def test_event_files_are_written_on_request(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(tmp_path / "with", LOOP, Runtime(tensorboard=True))
    fit(tmp_path / "without", LOOP, Runtime())
    assert list((tmp_path / "with").glob("events.out.tfevents*"))
    assert not list((tmp_path / "without").glob("events.out.tfevents*"))


def test_progress_counts_an_item_when_it_is_done() -> None:
    events: list[Event] = []
    seen = [
        (item, len(events)) for item in Runtime(on_event=events.append).progress("ab", "reading", "files")
    ]
    assert seen == [("a", 0), ("b", 1)]
    assert events[-1] == StageProgress(name="data", stage="reading", done=2, total=2, unit="files")
