"""Every way to adapt a SAM on EMPIAR-10017: three splits, one row per method and split.

    python benchmarks/empiar10017_methods.py DATA/empiar10017 RESULTS.jsonl --base MODEL
        [--runs FOLDER] [--methods native head ...] [--splits 0 1 2] [--steps 200] [--table]

Two micrographs of each split judge and nothing else; of the ten others eight train and two choose
weights, threshold and calibration. Truth is `particles.csv`: discs of the annotated radius. The margin
of 131 px does not count and a pick is right within half a radius (27 px). Rows that RESULTS.jsonl has
already are not made again; each runs in a process of its own, so that its peak memory is its own.

`dice_paper` is the Dice at 256 x 256 on the whole-image path, `dice` the one at native size by tiles,
both of thresholded logits; `dice_discs` that of the discs of the picks, which are the mask of a model
that learned cores.
`native` is the base as it is, `native+threshold` has threshold and scores from the choosing micrographs.
`gt` methods get points from the truth and are an upper bound.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

MARGIN_PX = 131
SPLITS = ((0, 1), (4, 5), (8, 9))  # as in dog_baseline.py
VALIDATION = 2
DIAMETER_PX = 109.0  # of the annotated discs
MATCH_PX = 27.0
PAPER_SIDE = 256
WHOLE_SIDE = 1024
ALL_BLOCKS = tuple(range(6))  # of particle-tiny
# Of the diameter: what networks learn to draw. Points alone cannot make SAM draw less than a particle.
CORE, WHOLE = 0.6, 1.0
CORES = {"native": WHOLE, "native+threshold": WHOLE, "apm": WHOLE}
STEPS = {"head": 60, "finetune+encoder": 300}
METHODS = (
    "native",
    "native+threshold",
    "head",
    "prefix",
    "encoder",
    "finetune",
    "finetune+encoder",
    "apm",
    "apm+ips",
    "ips+grid",
    "ips+gt",
)
PAPER = {"native": "", "head": ".68", "prefix": ".65", "encoder": ".69", "finetune": ".71"}
MEANS = ("train_seconds", "pick_seconds", "peak_gib")
COLUMNS = ("dice_paper", "dice", "dice_discs", "f1", "ap", "ece")


def prompt_config(method):
    """What is added to the SAM."""
    from cryoseg.config.prompt_sam import PromiseConfig, PromptConfig, Prompter, PromptMethod

    if method == "finetune+encoder":
        return PromptConfig(method=PromptMethod.FINETUNE, tuned_blocks=ALL_BLOCKS, tune_prompt_encoder=True)
    if method in ("native", "head", "prefix", "encoder", "finetune"):
        return PromptConfig(method=PromptMethod(method))
    parts = method.split("+")
    prompter = next((Prompter(part) for part in parts if part != "ips"), Prompter.NONE)
    return PromptConfig(
        method=PromptMethod.PROMISE, promise=PromiseConfig(prompter=prompter, ips="ips" in parts)
    )


def truth_of(folder):
    """Centers (n, 2) y, x by the stem of the image."""
    found = {}
    with (folder / "particles.csv").open() as stream:
        for row in csv.DictReader(stream):
            found.setdefault(Path(row["image"]).stem, []).append((float(row["y"]), float(row["x"])))
    return {name: np.array(rows) for name, rows in found.items()}


def binary_dice(a, b):
    """Dice of two masks."""
    return 2 * float(np.sum(a & b)) / max(float(a.sum() + b.sum()), 1.0)


def prepared_model(method, training, held_out, base, run, steps, seed, core):
    """Model file of the trained network, or the base with threshold and scores of the same micrographs."""
    import torch

    from cryoseg.config.train_sam import TrainSamConfig
    from cryoseg.methods.particles.data import ReadOptions
    from cryoseg.methods.particles.files import read_particle_file, save_particle_model
    from cryoseg.methods.particles.fit import validation_curves
    from cryoseg.methods.particles.train import MicrographData, load_all, train_prompt
    from cryoseg.methods.particles.trained import with_scores
    from cryoseg.methods.training.learner import best_threshold
    from cryoseg.methods.training.run import Runtime

    read = ReadOptions(particle_pixels=24.0, diameter_px=DIAMETER_PX, border_px=MARGIN_PX)
    if method == "native":
        return base, 0
    if method != "native+threshold":
        config = TrainSamConfig.ours(
            prompt_config(method), steps=steps, seed=seed, core=core, validate_every=max(1, steps // 4)
        )
        config = replace(config, sample=replace(config.sample, batch=2))
        data = MicrographData(training=training, held_out=held_out, read=read)
        trained = train_prompt(config, base, data, run)
        return trained.path, trained.parameters
    place = torch.device("cpu")
    loaded = read_particle_file(base)
    judged, _ = load_all(held_out, read, "", Runtime())
    network, recipe = loaded.network.to(place).eval(), loaded.recipe
    with torch.inference_mode():
        threshold, _ = best_threshold(validation_curves(network, judged, place))
        recipe, _ = with_scores(network, judged, replace(recipe, logit_threshold=threshold), place)
    run.mkdir(parents=True, exist_ok=True)
    path = run / "native_threshold.safetensors"
    save_particle_model(path, network, recipe, base=None)
    return path, 0


def logits_from_truth(model, micrograph, centers):
    """Logits at native size of a network that is prompted by the truth, by tiles."""
    from cryoseg.core.grids.resample import resample_image
    from cryoseg.core.grids.robust import particle_view
    from cryoseg.core.picking.micrograph_picks import draw_discs
    from cryoseg.methods.particles.fit import micrograph_logits
    from cryoseg.methods.particles.samples import TrainingMicrograph

    pixels = model.recipe.particle_pixels
    grey = particle_view(micrograph.data, diameter_px=DIAMETER_PX, particle_pixels=pixels)
    mask = draw_discs(centers, micrograph.data.shape, diameter_px=DIAMETER_PX) > 0
    labels = (resample_image(mask.astype(np.float32), grey.shape) > 0.5).astype(np.int8)
    view = TrainingMicrograph(name="", grey=grey, labels=labels, centers=centers)
    return micrograph_logits(model.network, view, model.device)


def judge(path, method, names, folder, base):
    """Mean metrics of the held-out micrographs."""
    import torch

    from cryoseg.config.pick_micrograph import MicrographPickConfig
    from cryoseg.core.grids.resample import resample_image
    from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks, join_curves
    from cryoseg.core.picking.calibration import Calibration, expected_calibration_error
    from cryoseg.core.picking.micrograph_picks import draw_discs, grow_cores, logits_to_picks
    from cryoseg.io.images.micrographs import read_micrograph
    from cryoseg.methods.particles.files import read_particle_file
    from cryoseg.methods.particles.model import ParticleModel
    from cryoseg.pipelines.pick.micrograph import pick_micrograph

    truth = truth_of(folder)
    loaded = read_particle_file(path, base=None if method.startswith("native") else base)
    recipe = loaded.recipe
    model = ParticleModel(loaded, name=method, device=torch.device("cpu"))
    inner = slice(MARGIN_PX, -MARGIN_PX)
    dices, discs, papers, curves, seconds = [], [], [], [], []
    hits = wrong = missed = 0
    for name in names:
        micrograph = read_micrograph(folder / "images" / f"{name}.jpg")
        shape, centers = micrograph.data.shape, truth[name]
        begun = time.monotonic()
        if loaded.network.needs_truth:
            logits = logits_from_truth(model, micrograph, centers)
            found = logits_to_picks(
                logits,
                diameter_px=recipe.particle_pixels,
                logit_threshold=recipe.logit_threshold,
                peak_sigma=recipe.peak_sigma,
            )
            places = (found.centers + 0.5) * (np.array(shape) / np.array(logits.shape)) - 0.5
            scores = Calibration(slope=recipe.score_slope, intercept=recipe.score_intercept)(found.raw_scores)
            logits = grow_cores(logits, core=recipe.core, diameter_px=recipe.particle_pixels)
        else:
            config = MicrographPickConfig(particle_diameter_px=DIAMETER_PX, score_threshold=0.0)
            result = pick_micrograph(micrograph, model, config)
            logits, places, scores = result.logits, result.picks.centers, result.picks.scores
        seconds.append(time.monotonic() - begun)
        mask = resample_image(logits, shape) > recipe.logit_threshold
        true = draw_discs(centers, shape, diameter_px=DIAMETER_PX) > 0
        dices.append(binary_dice(mask[inner, inner], true[inner, inner]))
        if recipe.core < 1:  # the mask that `cryoseg pick` writes
            chosen = places[scores >= recipe.score_threshold]
            drawn = draw_discs(chosen, shape, diameter_px=DIAMETER_PX) > 0
            discs.append(binary_dice(drawn[inner, inner], true[inner, inner]))
        scored = evaluate_picks(
            places,
            centers,
            MatchCriteria(radius_px=MATCH_PX, margin_px=MARGIN_PX, shape=shape),
            scores=scores,
            threshold=recipe.score_threshold,
        )
        curves.append(scored.curve)
        hits += scored.counts.true_positives
        wrong += scored.counts.false_positives
        missed += scored.counts.false_negatives
        if not loaded.network.needs_truth:
            eight_bit = np.clip(np.rint(micrograph.data), 0, 255).astype(np.uint8)
            small = model.whole_image_logits(np.repeat(eight_bit[..., None], 3, axis=2))
            if recipe.core < 1:
                large = resample_image(small, (WHOLE_SIDE, WHOLE_SIDE))
                side = DIAMETER_PX * WHOLE_SIDE / max(shape)
                small = resample_image(grow_cores(large, core=recipe.core, diameter_px=side), small.shape)
            small_true = resample_image(true.astype(np.float32), (PAPER_SIDE, PAPER_SIDE)) > 0.5
            papers.append(binary_dice(small > recipe.logit_threshold, small_true))
    curve = join_curves(curves)
    return {
        "dice_paper": float(np.mean(papers)) if papers else None,
        "dice": float(np.mean(dices)),
        "dice_discs": float(np.mean(discs)) if discs else None,
        "f1": 2 * hits / max(2 * hits + wrong + missed, 1),
        "precision": hits / max(hits + wrong, 1),
        "recall": hits / max(hits + missed, 1),
        "ap": curve.average_precision,
        "ece": expected_calibration_error(curve.scores, curve.is_hit),
        "logit_threshold": recipe.logit_threshold,
        "score_threshold": recipe.score_threshold,
        "pick_seconds": float(np.mean(seconds)),
    }


def one_row(queue, arguments, method, split):
    """Train and judge; the row goes into the queue."""
    from cryoseg.methods.particles.data import find_micrographs

    folder = arguments.folder
    pairs = sorted(
        find_micrographs([str(folder / "images")], [folder / "particles.csv"])[0], key=lambda pair: pair.name
    )
    test = [pairs[i] for i in SPLITS[split]]
    rest = [pair for pair in pairs if pair not in test]
    order = np.random.default_rng([split, 10017]).permutation(len(rest))
    held_out = [rest[i] for i in sorted(order[:VALIDATION])]
    training = [rest[i] for i in sorted(order[VALIDATION:])]
    begun = time.monotonic()
    run = arguments.runs / f"{method}_{split}"
    steps = arguments.steps or STEPS.get(method, 200)
    core = arguments.core or CORES.get(method, CORE)
    path, parameters = prepared_model(
        method,
        training,
        held_out,
        arguments.base,
        run,
        steps,
        seed=split,
        core=core,
    )
    trained = time.monotonic() - begun
    names = [pair.image.stem for pair in test]
    row = {
        "method": method,
        "split": split,
        "steps": steps,
        "core": core,
        "parameters": parameters,
    }
    row |= judge(path, method, names, folder, arguments.base)
    row |= {
        "train_seconds": round(trained, 1),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    queue.put(row)


def print_table(rows):
    """Mean and spread over the splits, in Markdown."""
    print(
        "| method | trained parameters | splits | "
        + " | ".join(COLUMNS)
        + " | train s | s/micrograph | peak GiB | paper |"
    )
    print("|---|---|---|" + "---|" * (len(COLUMNS) + 4))
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in mine if row[column] is not None]
            cells.append(f"{np.mean(values):.3f} +- {np.std(values):.3f}" if values else "")
        mean = {key: float(np.mean([row[key] for row in mine])) for key in MEANS}
        name = f"{method} (upper bound)" if "gt" in method else method
        print(
            f"| {name} | {mine[0]['parameters']:,} | {len(mine)} | "
            + " | ".join(cells)
            + f" | {mean['train_seconds']:.0f} | {mean['pick_seconds']:.1f} | "
            f"{mean['peak_gib']:.2f} | {PAPER.get(method, '')} |"
        )


def main() -> None:
    """Make the rows that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/empiar10017"))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--splits", nargs="+", type=int, default=range(len(SPLITS)))
    parser.add_argument("--steps", type=int, help="for all methods, instead of each one's own")
    parser.add_argument("--core", type=float, help="for all methods, instead of each one's own")
    parser.add_argument("--table", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.results.open()] if arguments.results.exists() else []
    context = multiprocessing.get_context("spawn")
    for split in () if arguments.table else arguments.splits:
        for method in arguments.methods:
            if any(row["method"] == method and row["split"] == split for row in rows):
                continue
            queue = context.SimpleQueue()
            worker = context.Process(target=one_row, args=(queue, arguments, method, split))
            worker.start()
            worker.join()
            if worker.exitcode:
                raise SystemExit(f"{method}, split {split}: failed")
            rows.append(queue.get())
            print(json.dumps(rows[-1]), flush=True)
            with arguments.results.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
