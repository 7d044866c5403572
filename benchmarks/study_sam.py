"""Train a picker for many conditions: numbers of micrographs, random draws, choices of blocks.

    python benchmarks/study_sam.py finetune train --test test -o study --train-size 2 --train-size 5

Every condition is one training in a folder of its own, which goes on where it was interrupted; `study.csv`
has a row for each and `study.svg` a point. Data are given as to `cryoseg train`.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path

import numpy as np

from cryoseg.config.prompt_sam import PromptConfig, PromptMethod, parse_blocks
from cryoseg.config.train_sam import TrainSamConfig, TrainView
from cryoseg.core.picking.micrograph_picks import grow_cores
from cryoseg.errors import InputError
from cryoseg.events import Note
from cryoseg.io.outputs import atomic_output
from cryoseg.methods.device import select_device
from cryoseg.methods.particles.data import MicrographPair, ReadOptions, find_micrographs
from cryoseg.methods.particles.files import load_base, read_particle_file
from cryoseg.methods.particles.fit import micrograph_logits, validation_curves
from cryoseg.methods.particles.train import MicrographData, load_all, split_micrographs, train_prompt
from cryoseg.methods.training.learner import LOGIT_BINS, dice_by_threshold
from cryoseg.methods.training.run import Runtime
from cryoseg.methods.weights import find_weights

TABLE, PLOT = "study.csv", "study.svg"
WIDTH, HEIGHT, MARGIN = 640, 400, 60


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


def run_study(
    config: TrainSamConfig,
    base: Path,
    data: MicrographData,
    test: Sequence[MicrographPair],
    folder: Path,
    *,
    sizes: Sequence[int] = (),
    repeats: int = 1,
    blocks: Sequence[str] = (),
    runtime: Runtime = Runtime(),
) -> list[StudyRow]:
    """Train once for every condition, each in a folder of its own, and write `study.csv` and `study.svg`.

    Trainings that are done are not done again, and the table is written after each.

    Parameters
    ----------
    config, base, data, runtime
        As for `train_prompt`; the micrographs of a training are drawn from those of `data`.
    test
        Micrographs that only judge.
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
    training = data.training
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
                    replace(data, training=[training[i] for i in sorted(order)]),
                    folder / name,
                    runtime=runtime,
                )
                if trained is None:
                    return rows
                dice = judge(trained.path, base, replace(data, held_out=test), changed, runtime)
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
                runtime.on_event(Note(text=f"{name}: test Dice {rows[-1].test_dice:.4f}"))
    return rows


def judge(
    path: Path, base: Path, data: MicrographData, config: TrainSamConfig, runtime: Runtime
) -> list[float]:
    """Dice of every held-out micrograph's whole particles at the model's threshold, on its own view."""
    if not data.held_out:
        return []
    loaded = read_particle_file(path, base=base)
    recipe, network = loaded.recipe, loaded.network
    place = runtime.device
    geometry = network.geometry
    square = (geometry.image_size, geometry.logit_side) if config.sample.view is TrainView.WHOLE else None
    options = replace(
        data.read or ReadOptions(particle_pixels=recipe.particle_pixels),
        particle_pixels=recipe.particle_pixels,
        square=square,
    )
    micrographs, _ = load_all(data.held_out, options, "reading test micrographs", Runtime())
    network.to(place).eval()
    if config.sample.view is TrainView.WHOLE:
        curves = validation_curves(network, micrographs, place)
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


def study_svg(values: Mapping[str, Sequence[float]], *, title: str, x_label: str, y_label: str) -> str:
    """Plot of the values of every condition, in order, with a line through the means.

    Parameters
    ----------
    values
        Condition to its repeats, each from 0 to 1 or any common range; none empty.
    title, x_label, y_label
        Words on the picture.
    """
    every = [value for repeats in values.values() for value in repeats]
    low, high = min(every), max(every)
    pad = 0.1 * (high - low) or 0.05
    low, high = low - pad, high + pad

    def x(place: int) -> float:
        return MARGIN + (place + 0.5) * (WIDTH - 2 * MARGIN) / len(values)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    means = [sum(repeats) / len(repeats) for repeats in values.values()]
    path = " ".join(f"{x(i):.1f},{y(mean):.1f}" for i, mean in enumerate(means))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" stroke="black"/>',
    ]
    for tick in range(5):
        value = low + (high - low) * tick / 4
        parts.append(f'<text x="{MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for i, (name, repeats) in enumerate(values.items()):
        place = f'x="{x(i):.1f}" y="{HEIGHT - MARGIN + 18}"'
        parts.append(f'<text {place} text-anchor="middle">{escape(name)}</text>')
        parts += [
            f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="3" fill="#1f77b4" opacity="0.6"/>' for v in repeats
        ]
    parts.append(f'<polyline points="{path}" fill="none" stroke="#1f77b4" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Run the study that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=[m.value for m in PromptMethod if m is not PromptMethod.NATIVE])
    parser.add_argument("data", nargs="+")
    parser.add_argument("-o", "--output-dir", type=Path, required=True)
    parser.add_argument("--base", default="particle-tiny")
    parser.add_argument("--train-size", type=int, action="append", default=[])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--blocks", action="append", default=[], help="see `cryoseg train prefix-prompt`")
    parser.add_argument("--test", action="append", default=[], help="data that choose nothing")
    parser.add_argument("--validation", action="append", default=[])
    parser.add_argument("--picks", type=Path, action="append", default=[])
    parser.add_argument("--particle-diameter-px", type=float)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    base = find_weights(given.base)
    recipe = load_base(base)[1]
    config = TrainSamConfig.ours(
        PromptConfig(method=PromptMethod(given.method)), steps=given.steps, seed=given.seed
    )
    training, held_out = split_micrographs(given.data, given.validation, given.picks, seed=given.seed)
    rows = run_study(
        config,
        base,
        MicrographData(
            training=training,
            held_out=held_out,
            read=ReadOptions(
                particle_pixels=24.0 if recipe is None else recipe.particle_pixels,
                diameter_px=given.particle_diameter_px,
            ),
        ),
        [pair for part in find_micrographs(given.test, given.picks) for pair in part],
        given.output_dir,
        sizes=given.train_size,
        repeats=given.repeat,
        blocks=given.blocks,
        runtime=Runtime(
            device=select_device(given.device),
            on_event=lambda event: print(event.text) if isinstance(event, Note) else None,
        ),
    )
    print(f"{given.output_dir / TABLE}: {len(rows)} trainings")


if __name__ == "__main__":
    main()
