"""Average the weights of membrane models, and choose widening and threshold on validation volumes.

    python benchmarks/finish_membrane.py OUT.safetensors VALIDATION... [--part STAGE MODEL SHARE]...
        [--window 1]

VALIDATION are folders of `cryoseg simulate tomograms`. Every `--part` adds the weights of a stage of a
packaged model, or of a `best.pt`, with a share; the shares of a stage have the sum 1. Without parts the
weights of the bundled model are kept. A window of one slice is inference without the memory of SAM 2.

Annotated bands are wider than simulated ones. Therefore the largest widening is chosen whose highest mean
validation Dice is at most `TOLERANCE` below that without widening, and then the lowest threshold with at
most the same loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from cryoseg.core.masks.widen import widen_logits
from cryoseg.methods.membrane_tiny.clips import load_volume
from cryoseg.methods.membrane_tiny.network import METHOD, build_stage, read_recipe
from cryoseg.methods.membrane_tiny.train import TOLERANCE, VALIDATION_TILE, load_start, volume_logits
from cryoseg.methods.membranes import find_pairs
from cryoseg.methods.model_file import load_strict, read_model_metadata, write_model_file
from cryoseg.methods.segmenter import ModelFiles
from cryoseg.methods.training.learner import best_threshold, dice_by_threshold
from cryoseg.methods.weights import find_weights

WIDENINGS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


def average(parts: Sequence[tuple[Mapping[str, torch.Tensor], float]]) -> dict[str, torch.Tensor]:
    """Return the mean of weights of one network, each with its share; the shares must have the sum 1."""
    if abs(sum(share for _, share in parts) - 1) > 1e-6:
        raise SystemExit("the shares of a stage do not have the sum 1.")
    return {
        name: sum((share * weights[name].float() for weights, share in parts), torch.zeros(()))
        for name in parts[0][0]
    }


def main() -> None:
    """Average, choose and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("validation", nargs="+")
    parser.add_argument("--part", nargs=3, action="append", metavar=("STAGE", "MODEL", "SHARE"))
    parser.add_argument("--window", type=int, help="slices of a step with its memory [that of the bundled]")
    arguments = parser.parse_args()
    parts = arguments.part or [("1", METHOD, "1"), ("2", METHOD, "1")]
    bundled = find_weights(Path(METHOD))
    recipe = read_recipe(ModelFiles(stages=(bundled,)))
    recipe = replace(recipe, window=arguments.window or recipe.window)
    stages = {
        stage: average(
            [(load_start(Path(model), stage), float(share)) for of, model, share in parts if int(of) == stage]
        )
        for stage in (1, 2)
    }
    networks = {stage: build_stage(stage, VALIDATION_TILE).eval() for stage in stages}
    for stage, network in networks.items():
        load_strict(network, stages[stage], f"stage {stage}")
    curves: dict[float, list[np.ndarray]] = {amount: [] for amount in WIDENINGS}
    for pair in find_pairs(arguments.validation):
        volume = load_volume(pair)
        first = volume_logits(networks[1], volume, window=recipe.window)
        volume = replace(volume, stage1_logits=first.astype(np.float16))
        logits = volume_logits(networks[2], volume, window=recipe.window, reverse=True)
        for amount, found in curves.items():
            widened = logits.copy()
            widen_logits(widened, amount)
            found.append(dice_by_threshold(widened, volume.labels))
    highest = {amount: best_threshold(found) for amount, found in curves.items()}
    lowest = {amount: best_threshold(found, tolerance=TOLERANCE) for amount, found in curves.items()}
    for amount in WIDENINGS:
        (best, most), (threshold, dice) = highest[amount], lowest[amount]
        print(f"widening {amount:g}: Dice {most:.4f} at {best:+.3f}; {dice:.4f} at {threshold:+.3f}")
    widening = max(amount for amount in WIDENINGS if highest[amount][1] >= highest[0.0][1] - TOLERANCE)
    threshold, dice = lowest[widening]
    metadata = read_model_metadata(bundled)
    metadata["recipe"] = asdict(replace(recipe, logit_threshold=threshold, widening=widening))
    metadata["logit_threshold"] = threshold
    metadata["card"]["validation_dice"] = round(dice, 4)
    metadata["card"]["validation_volumes"] = len(curves[widening])
    tensors = {
        f"stage{stage}.{name}": value for stage, part in stages.items() for name, value in part.items()
    }
    write_model_file(arguments.output, tensors, metadata, precision="float16")
    print(
        f"{arguments.output}: widening {widening:g}, threshold {threshold:+.3f}, validation Dice {dice:.4f}"
    )


if __name__ == "__main__":
    main()
