from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cryoseg.config.train import LoopConfig
from cryoseg.methods.training.learner import Learner, learning_rate
from cryoseg.methods.training.loop import (
    BEST,
    CHECKPOINT,
    LOG,
    RUN_CONFIG,
    StepResult,
    TrainingError,
    TrainingLoop,
)

CONFIG = LoopConfig(steps=12, warmup_steps=3, checkpoint_every=4, validate_every=6, learning_rate=0.05)


def line(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def loss_for(model: nn.Module) -> Callable[[int], Tensor]:
    def loss(step: int) -> Tensor:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return (model(x)[:, 0] - x.sum(dim=1)).square().mean()

    return loss


def distance(model: nn.Module, step: int) -> float:
    assert isinstance(model, nn.Linear)
    return -float(model.weight.detach().sub(1).norm())


def train(
    folder: Path,
    config: LoopConfig = CONFIG,
    *,
    model: nn.Linear | None = None,
    stop_after: int | None = None,
    record: Mapping[str, Any] | None = None,
    **learner: Any,
) -> list[StepResult]:
    """Lines of a run that is killed after a step, or comes to its end."""
    folder.mkdir(exist_ok=True)
    model = line() if model is None else model
    given = {"loss": loss_for(model), "validate": distance, **learner}
    results = []
    for result in TrainingLoop(Learner(network=model, **given), config, folder, record=record or {}).run():
        results.append(result)
        if stop_after is not None and result.step >= stop_after:
            break  # as a kill between two checkpoints: what came after the last one is lost
    return results


def state(folder: Path, name: str = CHECKPOINT) -> dict[str, Any]:
    return torch.load(folder / name, weights_only=True)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def test_a_run_cut_in_pieces_ends_with_the_same_weights_and_log(tmp_path: Path) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b", stop_after=8)
    with (tmp_path / "b" / LOG).open("a") as stream:
        stream.write("10,9.9,1e-3,,0,0\n")  # a line whose checkpoint was not written any more
    train(tmp_path / "b", model=line(seed=9))  # another start: the checkpoint must win
    first, second = state(tmp_path / "a"), state(tmp_path / "b")
    assert first["step"] == second["step"] == 12
    for part in ("model", "average"):
        assert all(torch.equal(first[part][k], second[part][k]) for k in first[part])
    assert first["validations"] == second["validations"]
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_the_best_weights_and_the_log_are_kept(tmp_path: Path) -> None:
    train(tmp_path)
    assert state(tmp_path, BEST)["step"] == 12
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [4, 6, 8, 12]
    assert [bool(row["score"]) for row in found] == [False, True, False, True]


def test_a_run_without_a_checkpoint_begins_a_log_of_its_own(tmp_path: Path) -> None:
    train(tmp_path, replace(CONFIG, steps=8))
    (tmp_path / CHECKPOINT).unlink()
    train(tmp_path)
    assert [int(row["step"]) for row in rows(tmp_path)] == [4, 6, 8, 12]


def test_validation_sees_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path: Path) -> None:
    seen: dict[int, Tensor] = {}

    def validate(model: nn.Module, step: int) -> float:
        assert not model.training
        seen[step] = model.weight.detach().clone()
        return 0.0

    train(tmp_path / "a", validate=validate)
    train(tmp_path / "b", validate=None)
    assert torch.equal(seen[12], state(tmp_path / "a")["average"]["weight"])
    assert not torch.equal(seen[12], state(tmp_path / "a")["model"]["weight"])
    assert torch.equal(state(tmp_path / "a")["model"]["weight"], state(tmp_path / "b")["model"]["weight"])
    assert not (tmp_path / "b" / BEST).exists()


@pytest.mark.parametrize(("tolerance", "kept"), [(0.0, 4), (0.2, 6), (0.5, 8)])
def test_weights_are_kept_for_the_best_score_or_the_latest_near_it(
    tolerance: float, kept: int, tmp_path: Path
) -> None:
    scores = {2: 0.5, 4: 0.9, 6: 0.8, 8: 0.6}
    train(
        tmp_path,
        replace(CONFIG, steps=10),
        validate=lambda model, step: {"score": scores[step], "peaks": 10 * step},
        validate_after=scores.keys(),
        tolerance=tolerance,
    )
    assert state(tmp_path, BEST)["step"] == kept
    assert state(tmp_path)["validations"] == [
        {"step": step, "score": score, "peaks": 10 * step} for step, score in scores.items()
    ]


def test_terms_of_the_loss_are_averaged_in_the_log(tmp_path: Path) -> None:
    model = line()

    def loss(step: int) -> dict[str, Tensor]:
        number = torch.tensor(float(step))
        return {"loss": model.weight.square().sum(), "odd": number % 2, "number": number}

    results = train(tmp_path, model=model, loss=loss)
    assert results[0].terms == {"odd": 0.5, "number": 1.5}  # steps 0 to 3
    assert [float(row["odd"]) for row in rows(tmp_path)] == [0.5, 0.5, 0.5, 0.5]


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    results = train(tmp_path, replace(CONFIG, steps=200), validate=None)
    assert results[-1].loss < 0.2 * results[0].loss


def test_gradients_are_clipped_by_part_or_left_alone(tmp_path: Path) -> None:
    def moved(name: str, clip: float | None, parts: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
        model = line()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        seen: dict[str, Tensor] = {}

        def loss(step: int) -> Tensor:
            for key, value in model.named_parameters():
                if step == 1:
                    assert value.grad is not None
                    seen[key] = value.grad.clone()
            return 3 * model.weight.sum() + 4 * model.bias.sum()

        config = replace(CONFIG, steps=2, clip_norm=clip, warmup_steps=0)
        train(tmp_path / name, config, model=model, loss=loss, validate=None, clip_together=parts)
        assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
        return seen

    assert moved("off", None)["bias"].item() == 4
    # The norm of (3, 3, 3, 4) is the root of 43, that of the bias alone is 4.
    assert moved("together", 1.0)["bias"].item() == pytest.approx(4 / 43**0.5, rel=1e-4)
    assert moved("apart", 1.0, ("weight", "bias"))["bias"].item() == pytest.approx(1, rel=1e-4)


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    model = line()
    with pytest.raises(TrainingError, match="learning-rate"):
        train(tmp_path, model=model, loss=lambda step: model.weight.sum() * float("nan"))


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    record = {"version": "1", "config": {"loop": {"steps": 12, "max_minutes": None}}, "training": ["a"]}
    train(tmp_path, record=record)
    kept = (tmp_path / RUN_CONFIG).read_bytes()
    assert json.loads(kept) == record
    with pytest.raises(TrainingError, match="other settings"):
        train(tmp_path, record={**record, "training": ["b"]})
    assert (tmp_path / RUN_CONFIG).read_bytes() == kept
    train(tmp_path, record={**record, "version": "2", "config": {"loop": {"steps": 12, "max_minutes": 3.0}}})


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    content = (tmp_path / CHECKPOINT).read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no checkpoint"):
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        with pytest.raises(
            TrainingError, match=r"last\.pt: is damaged or not a checkpoint .* delete it to start again"
        ):
            train(tmp_path)


def test_the_time_limit_ends_a_run_that_an_equal_one_finishes(tmp_path: Path) -> None:
    limited = replace(CONFIG, steps=3, max_minutes=0.0)
    loops = []
    for _ in range(3):
        model = line()
        learner = Learner(network=model, loss=loss_for(model))
        loops.append(TrainingLoop(learner, limited, tmp_path, record={}))
        assert len(list(loops[-1].run())) == 1
    assert [(loop.step, loop.is_finished) for loop in loops] == [(1, False), (2, False), (3, True)]


def test_the_learning_rate_rises_then_falls_to_the_stated_fraction() -> None:
    config = LoopConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate_fraction=0.1)
    assert learning_rate(0, config) == pytest.approx(0.1)
    assert learning_rate(9, config) == pytest.approx(1.0)
    assert learning_rate(55, config) == pytest.approx(0.55)
    assert learning_rate(100, config) == pytest.approx(0.1)
