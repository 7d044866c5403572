"""Studies of the paper: how Dice depends on the number of micrographs, on chance, and on the blocks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from cryoseg.config.prompt_sam import BOTH_ADAPTERS, PromptMethod
from cryoseg.config.train_sam import TrainSamConfig, TrainView
from cryoseg.core.picking.logit_picks import grow_cores
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, OnEvent, ignore
from cryoseg.io.outputs import atomic_output
from cryoseg.methods.device import select_device
from cryoseg.methods.particles.data import MicrographPair, ReadOptions
from cryoseg.methods.particles.files import load_base, read_particle_file
from cryoseg.methods.particles.fit import LOGIT_BINS, dice_by_threshold, micrograph_logits, validation_curves
from cryoseg.methods.particles.train import load_all, train_prompt
from cryoseg.view.study_plot import study_svg

TABLE, PLOT = "study.csv", "study.svg"


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One training of a study.

    Attributes
    ----------
    train_size, repeat, blocks
        The condition.
    validation_dice
        Of the micrographs that chose the weights and the threshold.
    test_dice, test_spread
        Mean and standard deviation over micrographs that chose nothing, at the chosen threshold; NaN
        without such micrographs.
    """

    method: str
    train_size: int
    repeat: int
    blocks: str
    parameters: int
    seconds: float
    logit_threshold: float
    validation_dice: float
    test_dice: float
    test_spread: float


def parse_blocks(text: str, method: PromptMethod, depth: int) -> tuple[int, ...] | None:
    """Numbers per block from what the user typed.

    Parameters
    ----------
    text
        `all`, or blocks and ranges from 0, such as `0-3,7`; for adapters each may have `:1` (space),
        `:2` (MLP) or `:3` (both, the default) behind it.
    method
        `prefix` or `encoder`.
    depth
        Of the encoder.

    Raises
    ------
    ConfigError
        If it cannot be understood, or the encoder has no such block.
    """
    if text.strip().lower() == "all":
        return None
    if method not in (PromptMethod.PREFIX, PromptMethod.ENCODER):
        raise ConfigError(f"--blocks {text}: {method} has no choice per block; leave it out.")
    choice = [0] * depth
    for part in text.split(","):
        span, _, number = part.partition(":")
        first, _, last = span.partition("-")
        try:
            begin, end = int(first), int(last or first)
            value = int(number) if number else (1 if method is PromptMethod.PREFIX else BOTH_ADAPTERS)
        except ValueError:
            raise ConfigError(f"--blocks {text}: write blocks as 0-3,7 or all.") from None
        if not 0 <= begin <= end < depth:
            raise ConfigError(f"--blocks {text}: the image encoder has blocks 0 to {depth - 1}.")
        choice[begin : end + 1] = [value] * (end + 1 - begin)
    return tuple(choice)


def run_study(
    config: TrainSamConfig,
    base: Path,
    training: Sequence[MicrographPair],
    held_out: Sequence[MicrographPair],
    test: Sequence[MicrographPair],
    folder: Path,
    *,
    sizes: Sequence[int] = (),
    repeats: int = 1,
    blocks: Sequence[str] = (),
    read: ReadOptions | None = None,
    device: str = "auto",
    on_event: OnEvent = ignore,
) -> list[StudyRow]:
    """Train once for every condition, each in a folder of its own, and write `study.csv` and `study.svg`.

    Trainings that are done are not done again, and the table is written after each.

    Parameters
    ----------
    config, base, read, device, on_event
        As for `train_prompt`.
    training, held_out, test
        Micrographs to draw from, to choose by, and to judge by.
    folder
        Receives everything.
    sizes
        Numbers of training micrographs; empty for all of them.
    repeats
        Draws of every condition, each with a seed and a choice of micrographs of its own.
    blocks
        As `parse_blocks` takes them; empty for the config's.

    Raises
    ------
    InputError
        If there are fewer micrographs than asked for.
    """
    depth = load_base(base)[0].depth
    rows: list[StudyRow] = []
    for size in sizes or (len(training),):
        if not 1 <= size <= len(training):
            raise InputError(f"--train-size {size}: there are {len(training)} micrographs to train on.")
        for spec in blocks or ("",):
            for repeat in range(repeats):
                seed = config.loop.seed + repeat
                order = np.random.default_rng([seed, size]).permutation(len(training))[:size]
                prompt = config.prompt
                if spec:
                    prompt = replace(prompt, blocks=parse_blocks(spec, prompt.method, depth))
                changed = replace(config, prompt=prompt, loop=replace(config.loop, seed=seed))
                name = (
                    f"n{size}_blocks-{spec.replace(',', '+').replace(':', '_') or 'default'}_repeat{repeat}"
                )
                trained = train_prompt(
                    changed,
                    base,
                    [training[i] for i in sorted(order)],
                    held_out,
                    folder / name,
                    read=read,
                    device=device,
                    on_event=on_event,
                )
                if trained is None:
                    return rows
                dice = judge(trained.path, base, test, changed, read=read, device=device)
                rows.append(
                    StudyRow(
                        method=prompt.label,
                        train_size=size,
                        repeat=repeat,
                        blocks=spec or "default",
                        parameters=trained.parameters,
                        seconds=round(trained.seconds, 1),
                        logit_threshold=trained.threshold,
                        validation_dice=round(trained.dice, 4),
                        test_dice=round(float(np.mean(dice)), 4) if dice else float("nan"),
                        test_spread=round(float(np.std(dice)), 4) if dice else float("nan"),
                    )
                )
                write_study(folder, rows)
                on_event(Note(text=f"{name}: test Dice {rows[-1].test_dice:.4f}"))
    return rows


def judge(
    path: Path,
    base: Path,
    test: Sequence[MicrographPair],
    config: TrainSamConfig,
    *,
    read: ReadOptions | None = None,
    device: str = "auto",
) -> list[float]:
    """Dice of every test micrograph's whole particles at the model's own threshold, on its own view."""
    if not test:
        return []
    loaded = read_particle_file(path, base=base)
    recipe, network = loaded.recipe, loaded.network
    place = select_device(device)
    geometry = network.geometry
    square = (geometry.image_size, geometry.logit_side) if config.sample.view is TrainView.WHOLE else None
    options = replace(
        read or ReadOptions(particle_pixels=recipe.particle_pixels),
        particle_pixels=recipe.particle_pixels,
        square=square,
    )
    micrographs, _ = load_all(test, options, "reading test micrographs", ignore)
    network.to(place).eval()
    if config.sample.view is TrainView.WHOLE:
        curves = validation_curves(network, micrographs, config.sample.view, place)
    else:
        curves = [
            dice_by_threshold(
                grow_cores(
                    micrograph_logits(network, micrograph, place),
                    core=recipe.core,
                    diameter_px=recipe.particle_pixels,
                ),
                micrograph.labels,
            )
            for micrograph in micrographs
        ]
    chosen = int(np.abs(LOGIT_BINS - recipe.logit_threshold).argmin())
    return [float(curve[chosen]) for curve in curves]


def write_study(folder: Path, rows: Sequence[StudyRow]) -> None:
    """`study.csv` with a row per training, and `study.svg` with a point for each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(StudyRow)]
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    with atomic_output(folder / TABLE, overwrite=True) as temporary:
        temporary.write_text(text.getvalue())
    many_sizes = len({row.train_size for row in rows}) > 1
    tested = not np.isnan(rows[0].test_dice)
    values: dict[str, list[float]] = {}
    for row in rows:
        key = " ".join(
            part
            for part in (
                str(row.train_size) if many_sizes else "",
                row.blocks if row.blocks != "default" else "",
            )
            if part
        )
        values.setdefault(key or "all", []).append(row.test_dice if tested else row.validation_dice)
    svg = study_svg(
        values,
        title=f"{rows[0].method}: {len(rows)} trainings",
        x_label="training micrographs" if many_sizes else "blocks",
        y_label="test Dice" if tested else "validation Dice",
    )
    with atomic_output(folder / PLOT, overwrite=True) as temporary:
        temporary.write_text(svg)
