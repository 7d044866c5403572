"""Train the general particle model, and three models that leave one specimen out.

    python benchmarks/train_particle_wide.py DATA RUNS [--models simulated no-apoferritin ... all]
        [--steps 900 400] [--batch 2] [--device auto] [--max-minutes 9] [--workers 2]

DATA as in `specimens.py`. First the simulated pool is made in RUNS/pool. Then `simulated` trains the bundled
`particle-tiny` on it alone; every other model goes on from there with simulated and real micrographs, half of
the samples each. `no-X` never sees specimen X, and `all` sees all. Everything resumes: run the same command
again. A longer training or a GPU changes `--steps`, `--batch` and `--micrographs` only.

The models are RUNS/NAME/finetune.safetensors; `unfamiliar.py` judges them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from specimens import SPECIMENS, TRAIN, VALID, fields_of

from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.train_sam import TrainSamConfig
from cryoseg.events import Event, Note
from cryoseg.methods.device import select_device
from cryoseg.methods.particles.data import MicrographPair, find_micrographs
from cryoseg.methods.particles.train import MicrographData, find_base, train_prompt
from cryoseg.methods.particles.trained import ModelOutput
from cryoseg.methods.training.run import Runtime

SIMULATED, ALL = "simulated", "all"
MODELS = (SIMULATED, *(f"no-{one.name}" for one in SPECIMENS), ALL)
ZOOM = 1.45  # The diameter that a user gives may be wrong by this factor.
# Folder, share of the pool, seed, recipe, diameters in pixels.
POOL = (("hard", 0.75, 101, "hard"), ("train", 0.25, 102, "train"))
VALIDATION = ("val", 8, 103, "hard")


def simulate(folder: Path, count: int, seed: int, recipe: str, workers: int) -> None:
    """Simulate micrographs; those that exist are kept."""
    command = [
        sys.executable,
        "-m",
        "cryoseg",
        "simulate",
        "micrographs",
        "-o",
        str(folder),
        "-n",
        str(count),
    ]
    command += ["--seed", str(seed), "--recipe", recipe, "--prefix", folder.name, "--workers", str(workers)]
    command += ["--shape", "768x768", "--particle-diameter-px", "22:56", "--quiet"]
    subprocess.run(command, check=True)


def real_pairs(data: Path, left_out: str, role: str) -> dict[str, list[MicrographPair]]:
    """Micrographs of one role by specimen."""
    return {
        one.name: [
            MicrographPair(
                name=field.name,
                image=field.image,
                centers=field.centers,
                diameter_px=one.visible_px,
                border_px=one.margin_px,
            )
            for field in fields_of(data, one)
            if field.role == role
        ]
        for one in SPECIMENS
        if one.name != left_out
    }


def show(event: Event) -> None:
    """Print notes."""
    if isinstance(event, Note) and not event.detail:
        print(event.text, flush=True)


def main() -> None:
    """Make the pool, and train what is not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument(
        "--steps", nargs=2, type=int, default=(900, 400), help="simulated alone, and with real"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--micrographs", type=int, default=192, help="simulated ones for training")
    parser.add_argument("--base", default="particle-tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-minutes", type=float, help="of each training in this call")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    pool = arguments.runs / "pool"
    for name, share, seed, recipe in POOL:
        simulate(pool / name, round(share * arguments.micrographs), seed, recipe, arguments.workers)
    name, count, seed, recipe = VALIDATION
    simulate(pool / name, count, seed, recipe, arguments.workers)
    simulated = [pair for part in POOL for pair in find_micrographs([str(pool / part[0])])[0]]
    judges = find_micrographs([str(pool / name)])[0]
    runtime = Runtime(device=select_device(arguments.device), on_event=show)
    prompt = PromptConfig(
        method=PromptMethod.FINETUNE, tuned_blocks=tuple(range(6)), tune_prompt_encoder=True, tune_stem=True
    )
    for model in arguments.models:
        training, held_out = list(simulated), list(judges)
        steps = arguments.steps[0 if model == SIMULATED else 1]
        base = find_base(arguments.base)
        if model != SIMULATED:
            base = arguments.runs / SIMULATED / "finetune.safetensors"
            left_out = model.removeprefix("no-")
            real = real_pairs(arguments.data, left_out, TRAIN)
            for (
                pairs
            ) in real.values():  # Every specimen has the same weight, all together half of the samples.
                training += pairs * round(len(simulated) / len(real) / len(pairs))
            for pairs in real_pairs(arguments.data, left_out, VALID).values():
                held_out += pairs
        config = TrainSamConfig.ours(prompt, steps=steps, core=0.6, validate_every=steps, checkpoint_every=50)
        config = replace(
            config,
            sample=replace(config.sample, batch=arguments.batch, zoom=ZOOM),
            loop=replace(config.loop, max_minutes=arguments.max_minutes),
        )
        print(f"{model}: {len(training)} training, {len(held_out)} validation micrographs", flush=True)
        # Bfloat16 halves the time of a step on processors that have it. Cached weights would never change.
        with torch.autocast(runtime.device.type, torch.bfloat16, cache_enabled=False):
            train_prompt(
                config,
                base,
                MicrographData(training=training, held_out=held_out),
                arguments.runs / model,
                output=ModelOutput(standalone=True),
                runtime=runtime,
            )


if __name__ == "__main__":
    main()
