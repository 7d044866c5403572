"""Train the membrane model on cells and on single slices too, from the bundled weights.

    python benchmarks/train_membrane_wide.py RUNS [--steps 600 900] [--volumes 96] [--workers 16]
        [--device auto] [--max-minutes 4] [--sample-workers 1]

The simulated volumes have the recipes `cell` and `train`; further ones of the recipes `cell` and `heldout`
are for validation. One slice of every second volume, or the mean of two or three neighboring ones, is a
further tomogram of one slice. `--steps 0 N` trains stage 2 only. At the end the trained weights of stage 2
are mixed with those of the start, and the mixture with the highest validation Dice is written to RUNS/out
with its threshold, beside the logs.

The same command continues a training. With `--max-minutes` it stops in time and writes the best weights
so far; two fifths of the time after the simulation are for stage 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from finish_membrane import average

from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig, TrainMembraneConfig
from cryoseg.events import Event, Note
from cryoseg.io.images.volumes import read_mask, read_tomogram, write_logits, write_mask
from cryoseg.methods.device import select_device
from cryoseg.methods.membrane_tiny.train import load_start, package, train_stage, write_logits_of_run
from cryoseg.methods.membranes import TrainingPairs, find_pairs, logits_folder
from cryoseg.methods.training.loop import BEST, LOG, RUN_CONFIG
from cryoseg.methods.training.run import Runtime

START = Path("membrane-tiny")
# Folder, recipe, seed, share of the volumes.
TRAINING = (("cell", "cell", 171, 0.45), ("train", "train", 172, 0.55))
VALIDATION = (("val_cell", "cell", 173, 0.03), ("val_old", "heldout", 174, 0.03))
SLICES = "_slices"  # end of the names of the folders with tomograms of one slice
STAGE1_SHARE = 0.4  # of the time limit


def simulate(pool: Path, arguments: argparse.Namespace) -> None:
    """Simulate the volumes; those that exist are kept."""
    for folder, recipe, seed, share in TRAINING + VALIDATION:
        count = max(2, round(share * arguments.volumes))
        command = [sys.executable, "-m", "cryoseg", "simulate", "tomograms", "-o", str(pool / folder)]
        command += ["-n", str(count), "--seed", str(seed), "--recipe", recipe, "--shape", arguments.shape]
        subprocess.run([*command, "--workers", str(arguments.workers), "--quiet"], check=True)
        write_single_slices(pool / folder, pool / f"{folder}{SLICES}", seed)


def write_single_slices(volumes: Path, output: Path, seed: int) -> None:
    """Write a tomogram of one slice for every second volume of a folder; those that exist are kept."""
    output.mkdir(exist_ok=True)
    for number, pair in enumerate(find_pairs([str(volumes)])[::2]):
        path = output / pair.image.name
        if path.exists():
            continue
        rng = np.random.default_rng([seed, number])
        tomogram = read_tomogram(pair.image)
        labels = read_mask(pair.labels).data
        z = int(rng.choice(np.flatnonzero((labels > 0).any(axis=(1, 2)))[1:-1]))
        first, last = z - int(rng.integers(2)), z + int(rng.integers(2))
        mean = np.mean(tomogram.data[first : last + 1], axis=0)[None]
        labels_path = path.with_name(pair.labels.name.removesuffix(".gz"))
        write_mask(labels_path, labels[z : z + 1], tomogram.geometry, label="labels")
        write_logits(path, mean, tomogram.geometry, label="one slice")


def keep_start(config: TrainMembraneConfig, run: Path, start: Path) -> None:
    """Write the weights of a stage, from which the training would start, as a run without steps."""
    run.mkdir(parents=True, exist_ok=True)
    if not (run / BEST).exists():
        torch.save({"step": 0, "score": 0.0, "model": load_start(start, config.stage)}, run / BEST)
    record = {"config": config.to_dict(), "training": [], "validation": [], "start": str(start)}
    (run / RUN_CONFIG).write_text(json.dumps(record))


def mixed(run: Path, start: dict[str, torch.Tensor], share: float) -> Path:
    """Return a run whose weights are `share` of a run's best ones and the rest of those of its start."""
    folder = run.with_name(f"{run.name}_{share:g}")
    best = torch.load(run / BEST, map_location="cpu", weights_only=True)
    best["model"] = average([(start, 1 - share), (best["model"], share)])
    folder.mkdir(exist_ok=True)
    torch.save(best, folder / BEST)
    shutil.copy(run / RUN_CONFIG, folder)
    return folder


def show(event: Event) -> None:
    """Print notes."""
    if isinstance(event, Note) and not event.detail:
        print(event.text, flush=True)


def main() -> None:
    """Simulate, train what is not finished, and write the best mixture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", nargs=2, type=int, default=(600, 900), help="of stage 1 and stage 2")
    parser.add_argument("--volumes", type=int, default=96)
    parser.add_argument("--shape", default="48x224x224")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sample-workers", type=int, default=0, help="processes that draw clips")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-minutes", type=float)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop-size", type=int, default=160)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--start", type=Path, nargs=2, default=(START, START), help="weights of both stages")
    parser.add_argument("--mix", type=float, nargs="+", default=(0.5, 1.0), help="shares of the new weights")
    arguments = parser.parse_args()
    begun = time.monotonic()
    runs, out = arguments.runs, arguments.runs / "out"
    out.mkdir(parents=True, exist_ok=True)
    simulate(runs / "pool", arguments)
    simulated = time.monotonic()
    print(f"simulated in {simulated - begun:.0f} s", flush=True)

    def folders(parts: Sequence[tuple[str, str, int, float]]) -> list[str]:
        return [str(runs / "pool" / f"{part[0]}{end}") for part in parts for end in ("", SLICES)]

    data = TrainingPairs(
        training=find_pairs(folders(TRAINING)),
        held_out=find_pairs(folders(VALIDATION)),
        polarity=Polarity.DARK,
    )
    clip = ClipConfig(size=arguments.crop_size, batch=arguments.batch, hard_negatives=0.25)

    def settings(stage: int, share: float) -> TrainMembraneConfig:
        steps = max(1, arguments.steps[stage - 1])
        minutes = None
        if arguments.max_minutes is not None:
            limit = arguments.max_minutes - (simulated - begun) / 60
            minutes = max(0.1, share * limit - (time.monotonic() - simulated) / 60)
        loop = LoopConfig(
            steps=steps,
            learning_rate=arguments.learning_rate,
            validate_every=max(1, steps // 3),
            checkpoint_every=min(50, steps),
            max_minutes=minutes,
        )
        return TrainMembraneConfig(stage=stage, loop=loop.with_short_warmup(), clip=clip)

    runtime = Runtime(
        device=select_device(arguments.device), on_event=show, sample_workers=arguments.sample_workers
    )
    first_run, second_run = runs / "stage1", runs / "stage2"
    first = settings(1, STAGE1_SHARE)
    with torch.autocast(runtime.device.type, torch.bfloat16, cache_enabled=False):
        if arguments.steps[0]:
            train_stage(first, data, first_run, start=load_start(arguments.start[0], 1), runtime=runtime)
        if not (first_run / BEST).exists():
            keep_start(first, first_run, arguments.start[0])
    data = replace(data, logits=logits_folder(second_run, first_run / BEST, data.polarity))
    write_logits_of_run(first, first_run, data, runtime)
    second = settings(2, 0.85)
    start = load_start(arguments.start[1], 2)
    with torch.autocast(runtime.device.type, torch.bfloat16, cache_enabled=False):
        train_stage(second, data, second_run, start=start, runtime=runtime)
    if not (second_run / BEST).exists():
        raise SystemExit("no validation of stage 2 within the time; give more time or fewer steps.")
    found = {}
    for share in arguments.mix:
        model = out / f"mix_{share:g}.safetensors"
        pair = (first_run, mixed(second_run, start, share))
        found[model] = package((first, second), pair, data, model, device=runtime.device)
        print(f"{model}: threshold {found[model][0]:+.3f}, Dice {found[model][1]:.4f}", flush=True)
    best = max(found, key=lambda model: found[model][1])
    shutil.copy(best, out / "membrane.safetensors")
    for run in (first_run, second_run):
        if (run / LOG).exists():
            shutil.copy(run / LOG, out / f"{run.name}.csv")
    print(f"{best.name} is the best; all done in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
