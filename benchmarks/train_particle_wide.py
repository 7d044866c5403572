"""Train the general particle model, and three models that leave one specimen out.

    python benchmarks/train_particle_wide.py DATA RUNS [--models simulated no-apoferritin ... all]
        [--minutes 1.2 1.8] [--batch 32] [--micrographs 480] [--workers 16] [--device cuda]
    python benchmarks/train_particle_wide.py DATA RUNS --share 0.5 [--models ...]

DATA as in `specimens.py`, packed or not. First the simulated pool is made in RUNS/pool. Then `simulated`
trains the bundled `particle-tiny` on it alone. All other models go on from there at once, each in a process
of its own: a third of their samples is real. `no-X` never sees specimen X, and `all` sees all. The learning
rate is constant, and the weights are averaged over the last steps, so that a training may end at any time:
after `--minutes`, of `simulated` and of the others. The same command continues.

The models are RUNS/NAME.safetensors. Real micrographs of two specimens make a network forget simulated
kinds. `--share` therefore averages the weights of `simulated` and of each model, with this share of the
latter, chooses threshold and blur on the validation micrographs that the model may see, and writes
RUNS/NAME-SHARE.safetensors, which `unfamiliar.py` judges.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from specimens import PACKED_PX, SPECIMENS, TRAIN, VALID, fields_of

from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.train_sam import TrainSamConfig
from cryoseg.events import Event, Note
from cryoseg.methods.device import select_device
from cryoseg.methods.particles.data import MicrographPair, ReadOptions, find_micrographs, load_micrograph
from cryoseg.methods.particles.files import adapt, read_particle_file, save_particle_model
from cryoseg.methods.particles.fit import TrainedPart, validation_curves
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.particles.train import MicrographData, load_all, train_prompt
from cryoseg.methods.particles.trained import with_scores
from cryoseg.methods.training.learner import best_threshold
from cryoseg.methods.training.loop import CHECKPOINT
from cryoseg.methods.training.run import Runtime
from cryoseg.methods.weights import find_weights

SIMULATED, ALL = "simulated", "all"
MODELS = (SIMULATED, *(f"no-{one.name}" for one in SPECIMENS), ALL)
ZOOM = 1.45  # The diameter that a user gives may be wrong by this factor.
CORE = 0.6  # diameter of the discs that are learned, in diameters of the particle
REAL = 1 / 3  # share of real samples
RATES = (5e-4, 2e-4)  # learning rates of `simulated` and of the others
STEPS = 1_000_000  # never reached: the time ends a training
PROMPT = PromptConfig(
    method=PromptMethod.FINETUNE, tuned_blocks=tuple(range(6)), tune_prompt_encoder=True, tune_stem=True
)
# Folder, share of the pool, seed, recipe.
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
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def real_pairs(data: Path, left_out: str, role: str) -> dict[str, list[MicrographPair]]:
    """Micrographs of one role by specimen."""
    return {
        one.name: [
            MicrographPair(
                name=field.name,
                image=field.image,
                centers=field.centers,
                diameter_px=field.specimen.visible_px,
                border_px=field.specimen.margin_px,
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


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The micrographs, and what has been read of them by path."""

    data: Path
    simulated: list[MicrographPair]
    judges: list[MicrographPair]
    read: dict[Path, tuple[TrainingMicrograph, float]]

    def load(self, pair: MicrographPair, *_, **__) -> tuple[TrainingMicrograph, float]:
        """Return a micrograph that has been read."""
        return self.read[pair.image]

    def of(self, model: str) -> MicrographData:
        """Training and validation micrographs of a model."""
        training, held_out = list(self.simulated), list(self.judges)
        if model != SIMULATED:
            left_out = model.removeprefix("no-")
            real = real_pairs(self.data, left_out, TRAIN)
            wanted = len(self.simulated) * REAL / (1 - REAL) / len(real)  # the same for every specimen
            for pairs in real.values():
                training += pairs * max(1, round(wanted / len(pairs)))
            held_out += [pair for pairs in real_pairs(self.data, left_out, VALID).values() for pair in pairs]
        return MicrographData(training=training, held_out=held_out, load=self.load)


def read_one(pair: MicrographPair) -> tuple[Path, tuple[TrainingMicrograph, float]]:
    """Read a micrograph at the scale of the network."""
    torch.set_num_threads(1)
    return pair.image, load_micrograph(pair, ReadOptions(particle_pixels=PACKED_PX, core=CORE))


def prepare(data: Path, runs: Path, micrographs: int, workers: int) -> Pairs:
    """Make the pool, and read all micrographs in several processes."""
    pool = runs / "pool"
    for name, share, seed, recipe in POOL:
        simulate(pool / name, round(share * micrographs), seed, recipe, workers)
    name, count, seed, recipe = VALIDATION
    simulate(pool / name, count, seed, recipe, workers)
    simulated = [pair for part in POOL for pair in find_micrographs([str(pool / part[0])])[0]]
    judges = find_micrographs([str(pool / name)])[0]
    wanted = simulated + judges
    wanted += [p for role in (TRAIN, VALID) for pairs in real_pairs(data, "", role).values() for p in pairs]
    with multiprocessing.get_context("fork").Pool(workers) as processes:
        read = dict(processes.imap_unordered(read_one, wanted))
    return Pairs(data=data, simulated=simulated, judges=judges, read=read)


def train(model: str, pairs: Pairs, runs: Path, arguments: argparse.Namespace, workers: int) -> None:
    """Train a model until its time is over, and write its averaged weights."""
    first = model == SIMULATED
    base = find_weights("particle-tiny") if first else runs / f"{SIMULATED}.safetensors"
    config = TrainSamConfig.ours(PROMPT, steps=STEPS, core=CORE, checkpoint_every=arguments.checkpoint_every)
    loop = replace(
        config.loop,
        learning_rate=RATES[not first],
        final_learning_rate_fraction=1.0,
        ema_decay=0.998,
        max_minutes=arguments.minutes[not first],
    )
    sample = replace(config.sample, batch=arguments.batch, zoom=ZOOM)
    config = replace(config, loop=loop, sample=sample)
    runtime = Runtime(device=select_device(arguments.device), on_event=show, sample_workers=workers)
    # Bfloat16 halves the time of a step on processors that have it. Cached weights would never change.
    with torch.autocast(runtime.device.type, torch.bfloat16, cache_enabled=False):
        train_prompt(config, base, pairs.of(model), runs / model, runtime=runtime)
    network, recipe, _ = adapt(base, PROMPT)
    state = torch.load(runs / model / CHECKPOINT, map_location="cpu", weights_only=True)
    TrainedPart(network).load_state_dict(state["average"])
    recipe = replace(recipe, core=CORE, any_scale=True)
    card = {"training_steps": state["step"], "batch": arguments.batch}
    save_particle_model(runs / f"{model}.safetensors", network, recipe, base=None, card=card)
    print(f"{model}: {state['step']} steps", flush=True)


def in_processes(models: Sequence[str], pairs: Pairs, runs: Path, arguments: argparse.Namespace) -> None:
    """Train several models at once, each in a process that shares the memory of the micrographs."""
    fork = multiprocessing.get_context("fork")
    workers = arguments.workers // max(1, len(models))
    started = [fork.Process(target=train, args=(one, pairs, runs, arguments, workers)) for one in models]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise SystemExit("A training failed.")


def average(model: str, pairs: Pairs, runs: Path, share: float) -> None:
    """Average the weights with those of `simulated`, and choose threshold and blur on validation data."""
    files = [read_particle_file(runs / f"{name}.safetensors") for name in (SIMULATED, model)]
    states = [one.network.state_dict() for one in files]
    network = files[1].network
    network.load_state_dict(
        {name: torch.lerp(value, states[1][name], share) for name, value in states[0].items()}
    )
    cpu = torch.device("cpu")
    held_out, _ = load_all(
        pairs.of(model).held_out, ReadOptions(particle_pixels=PACKED_PX), "", Runtime(), pairs.load
    )
    threshold, dice = best_threshold(validation_curves(network.eval(), held_out, cpu))
    recipe = replace(files[1].recipe, logit_threshold=threshold)
    recipe, entries = with_scores(network, held_out, recipe, cpu)
    card = {**(files[1].card or {}), "share": share, "validation_dice": round(dice, 4), **entries}
    save_particle_model(runs / f"{model}-{share:g}.safetensors", network, recipe, base=None, card=card)
    print(f"{model}, share {share:g}: validation Dice {dice:.4f}, {entries}", flush=True)


def main() -> None:
    """Make the pool, and train or average the models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--minutes", nargs=2, type=float, default=(60, 60), help="`simulated`, the others")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--micrographs", type=int, default=192, help="simulated ones for training")
    parser.add_argument("--checkpoint-every", type=int, default=100, help="steps")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2, help="processes for data")
    parser.add_argument("--share", type=float, help="average the weights, and do not train")
    arguments = parser.parse_args()
    runs, models = arguments.runs, list(arguments.models)
    pairs = prepare(arguments.data, runs, arguments.micrographs, arguments.workers)
    print(f"{len(pairs.read)} micrographs", flush=True)
    if arguments.share is not None:
        for model in models:
            average(model, pairs, runs, arguments.share)
        return
    if SIMULATED in models:
        in_processes([SIMULATED], pairs, runs, arguments)
    in_processes([model for model in models if model != SIMULATED], pairs, runs, arguments)


if __name__ == "__main__":
    main()
