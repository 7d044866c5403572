"""What the parts of the second stage are worth, on validation volumes: one line per way to run it.

    python benchmarks/membrane_ablations.py STAGE2_RUN FOLDER --logits FOLDER_OF_STAGE1_LOGITS

STAGE2_RUN and the stage-1 logits are what `cryoseg train membrane --stage 2` leaves behind. Every line has
its own best common threshold, so none is put at a disadvantage by another's. Nothing is trained
again: a part that is taken away is missing in inference only, which bounds its use from above.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoseg.config.segment import Polarity
from cryoseg.core.metrics.statistics import mean_with_interval
from cryoseg.methods.membrane_tiny.clips import load_volume
from cryoseg.methods.membrane_tiny.network import LOGIT_OFFSETS, SLICE_OFFSETS
from cryoseg.methods.membrane_tiny.train import best_network, volume_logits
from cryoseg.methods.membranes import TrainingPairs, find_pairs
from cryoseg.methods.training.learner import LOGIT_BINS, dice_by_threshold

WINDOW = 4
FAR = [len(SLICE_OFFSETS) + i for i, step in enumerate(LOGIT_OFFSETS) if abs(step) > SLICE_OFFSETS[-1]]
LOGITS = [len(SLICE_OFFSETS) + i for i in range(len(LOGIT_OFFSETS))]
AROUND = [i for i, step in enumerate(SLICE_OFFSETS) if step]


def without(channels: list[int]) -> Callable[..., tuple[Tensor]]:
    """A hook that empties input channels."""

    def hook(module: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        images = inputs[0].clone()
        images[:, channels] = 0
        return (images,)

    return hook


def main() -> None:
    """Run every way over every volume."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("folder")
    parser.add_argument("--logits", type=Path, required=True)
    arguments = parser.parse_args()
    network = best_network(arguments.run, 2)
    data = TrainingPairs(
        training=(),
        held_out=find_pairs([arguments.folder]),
        polarity=Polarity.DARK,
        logits=arguments.logits,
    )
    volumes = [
        load_volume(pair, polarity=data.polarity, stage1_logits=data.stage1_logits(pair))
        for pair in data.held_out
    ]

    def run(channels: list[int], window: int, directions: tuple[bool, ...]) -> list[np.ndarray]:
        handle = network.image_encoder.stem.register_forward_pre_hook(without(channels))
        curves = []
        for volume in volumes:
            passes = [volume_logits(network, volume, window=window, reverse=down) for down in directions]
            curves.append(dice_by_threshold(np.mean(passes, axis=0), volume.labels))
        handle.remove()
        return curves

    stage1 = [dice_by_threshold(v.stage1_logits.astype(np.float32), v.labels) for v in volumes]
    ways = {
        "both stages": lambda: run([], WINDOW, (True,)),
        "stage 1 alone": lambda: stage1,
        "without stage-1 logits": lambda: run(LOGITS, WINDOW, (True,)),
        "without the far stage-1 logits": lambda: run(FAR, WINDOW, (True,)),
        "without neighboring slices": lambda: run(AROUND, WINDOW, (True,)),
        "without memory": lambda: run([], 1, (True,)),
        "stage 2 upward": lambda: run([], WINDOW, (False,)),
        "stage 2 both ways, averaged": lambda: run([], WINDOW, (True, False)),
    }
    print("| | mean Dice | less both stages (95 % interval) | threshold |\n|---|---|---|---|")
    whole: np.ndarray | None = None
    for name, way in ways.items():
        curves = np.array(way())
        best = int(curves.mean(axis=0).argmax())
        values = curves[:, best]
        whole = values if whole is None else whole
        gap = mean_with_interval((values - whole).tolist())
        print(
            f"| {name} | {values.mean():.3f} | {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}) "
            f"| {LOGIT_BINS[best]:g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
