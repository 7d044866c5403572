"""Train a stage of ETSAM: any SAM 2 network on clips of whole slices.

Two faults of the published augmentation are corrected. Its color jitter clamps to [0, 1], although the
inputs of stage 2 reach 2; here nothing is clamped. Its affine transform fills corners with 123 although the
data lie in [0, 1]; here they get the mean of the clip, and their labels are unknown. Saturation and random
grey do not change three equal channels and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from cryoseg.config.segment import PRESET_STAGE1_THRESHOLD, Polarity, Preset, SegmentConfig
from cryoseg.config.train import ClipPrompts, Sam2ClipConfig, TrainSam2Config
from cryoseg.core.grids.blank import find_blank
from cryoseg.core.grids.robust import PlaneMap, intensity_map
from cryoseg.errors import InputError
from cryoseg.events import OnEvent
from cryoseg.io.images.volumes import check_finite, read_tomogram
from cryoseg.methods.device import autocast
from cryoseg.methods.etsam.network import (
    WHOLE,
    NetworkInput,
    StagePass,
    load_predictor,
    prompt_mask,
    stage_input,
)
from cryoseg.methods.etsam.training_network import (
    ClipBatch,
    build_clip_network,
    clip_loss,
    etsam_loss,
    layered_groups,
)
from cryoseg.methods.membranes import Pair, TrainingPairs, read_labels, write_stage1_logits
from cryoseg.methods.model_file import load_state_dict, load_strict
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor, normalized
from cryoseg.methods.segmenter import Execution
from cryoseg.methods.training.learner import Learner, best_threshold, dice_by_threshold
from cryoseg.methods.training.run import Runtime, TrainingRun
from cryoseg.methods.weights import find_weights
from cryoseg.types import BoolArray

MASK_LEVEL = 0.5  # threshold of sam2 for a resized prompt mask


@dataclass(frozen=True, kw_only=True)
class SliceVolume:
    """A tomogram whose slices are read when they are needed.

    Attributes
    ----------
    name
        Name for messages.
    plane
        Function that returns slice z as (y, x) floats, the input of this stage.
    labels
        (z, y, x) labels: 1 membrane, 0 background, -1 unknown.
    prompt
        Function that returns the (y, x) mask that prompts slice z in inference, or None.
    """

    name: str
    plane: Callable[[int], NDArray[np.floating[Any]]]
    labels: NDArray[np.int8]
    prompt: Callable[[int], BoolArray | None]

    def first_slices(self, length: int) -> NDArray[np.int64]:
        """Return the slices with membrane that can start a clip, or else the first slice with membrane."""
        holding = np.flatnonzero((self.labels > 0).any(axis=(1, 2)))
        latest = max(len(self.labels) - length, 0)
        return holding[holding <= latest] if (holding <= latest).any() else holding[:1]


def sample_slice_clip(
    volumes: list[SliceVolume], rng: np.random.Generator, config: Sam2ClipConfig, side: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw one augmented clip of T slices for the square input of `side` pixels of a network.

    Returns
    -------
    tuple
        (T, 3, side, side) float32 images, (T, side, side) int8 labels and a (side, side) bool
        prompt or None. A volume of fewer than T slices ends with copies of its last slice,
        labeled unknown.
    """
    volume = volumes[int(rng.integers(len(volumes)))]
    starts = volume.first_slices(config.length)
    if not len(starts):
        raise InputError(f"{volume.name}: no slice is labeled membrane; leave this volume out.")
    first = int(starts[rng.integers(len(starts))])
    depth = len(volume.labels)
    rows = np.minimum(np.arange(first, first + config.length), depth - 1)
    images = torch.from_numpy(np.stack([np.asarray(volume.plane(int(z)), np.float32) for z in rows]))
    labels = torch.from_numpy(volume.labels[rows].copy())
    labels[torch.from_numpy(np.arange(first, first + config.length) >= depth)] = -1
    mask = volume.prompt(first)
    prompt = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
    images, labels, prompt = _warp(images, labels, prompt, rng, config)
    images = _jitter(images, rng, config)
    network = NetworkInput(lambda t: images[t].numpy(), len(images), side)
    return (
        normalized(torch.stack([network[t] for t in range(len(images))])),
        functional.interpolate(labels[:, None].float(), size=(side, side), mode="nearest-exact")[:, 0].to(
            torch.int8
        ),
        None if prompt is None else resize_mask(prompt, side),
    )


def resize_mask(mask: Tensor, side: int) -> Tensor:
    """Resize a (y, x) mask to (side, side) as sam2's predictor resizes a prompt."""
    resized = functional.interpolate(
        mask[None, None].float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, 0] >= MASK_LEVEL


def _warp(
    images: Tensor, labels: Tensor, prompt: Tensor | None, rng: np.random.Generator, config: Sam2ClipConfig
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mirror, rotate and shear all slices in the same way."""
    if rng.random() < config.flip:
        images, labels = images.flip(-1), labels.flip(-1)
        prompt = None if prompt is None else prompt.flip(-1)
    angle, shear = (float(rng.uniform(-most, most)) for most in (config.rotation, config.shear))
    if angle == 0 and shear == 0:
        return images, labels, prompt
    transform: dict[str, Any] = {"angle": angle, "translate": [0, 0], "scale": 1.0, "shear": [shear, 0.0]}
    known = labels.to(torch.float32) + 1  # 0 where a label is unknown, so that corners become unknown
    moved = affine(known, **transform, interpolation=InterpolationMode.NEAREST, fill=[0.0] * len(known)) - 1
    if not bool((moved[0] > 0).any()):
        return images, labels, prompt
    mean = float(images.mean())
    images = (
        affine(images - mean, **transform, interpolation=InterpolationMode.BILINEAR, fill=[0.0] * len(images))
        + mean
    )
    if prompt is not None:
        prompt = (
            affine(prompt[None].float(), **transform, interpolation=InterpolationMode.NEAREST)[0] > MASK_LEVEL
        )
    return images, moved.to(torch.int8), prompt


def _jitter(images: Tensor, rng: np.random.Generator, config: Sam2ClipConfig) -> Tensor:
    """Change brightness and contrast of all slices in the same way."""
    brightness, contrast = (1 + float(rng.uniform(-c, c)) for c in (config.brightness, config.contrast))
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return brightness * (mean + contrast * (images - mean))


def sample_slice_clips(
    volumes: list[SliceVolume], config: Sam2ClipConfig, *, side: int, seed: int, step: int, part: range
) -> ClipBatch:
    """Draw the clips of a step with indices in `part`, a part of `range(config.batch)`.

    All random choices follow from (seed, step, index of the clip).
    """
    clips = [sample_slice_clip(volumes, np.random.default_rng([seed, step, i]), config, side) for i in part]
    prompts = [prompt for _, _, prompt in clips if prompt is not None]
    return ClipBatch(
        images=torch.stack([images for images, _, _ in clips]),
        labels=torch.stack([labels for _, labels, _ in clips]),
        prompts=torch.stack(prompts) if len(prompts) == len(clips) else None,
    )


def train_sam2_stage(
    config: TrainSam2Config,
    data: TrainingPairs,
    folder: Path,
    *,
    start: Path | None = None,
    runtime: Runtime = Runtime(),
) -> bool:
    """Train one stage in a folder, or continue an earlier call; return whether all steps are done.

    Parameters
    ----------
    config
        Settings of the stage.
    data
        Pairs, with the folder of stage-1 logits for stage 2.
    folder
        Folder of `config.json`, `log.csv`, `last.pt` and `best.pt`, which `cryoseg segment
        --stage1-checkpoint` reads with the same `--sam2-config`.
    start
        Checkpoint of SAM 2.1, ETSAM or a run to start with, by file or name; None to train from scratch.
    runtime
        Device, processes and receiver of events.
    """
    run = TrainingRun(folder, f"stage {config.stage}", config.loop, runtime)
    device, processes = runtime.device, runtime.processes
    network = build_clip_network(
        config.sam2_config, prompts=config.prompts, drop_path=config.drop_path, freeze=config.freeze
    )
    if start is not None:
        start = find_weights(start)
        load_strict(network, load_state_dict(start), start)
    network.to(device)
    volumes = [_slice_volume(pair, config, data, runtime.on_event) for pair in data.training]
    criterion = etsam_loss()
    part = processes.share(config.clip.batch)

    def loss(step: int) -> Tensor:
        clips = sample_slice_clips(
            volumes, config.clip, side=network.image_size, seed=config.loop.seed, step=step, part=part
        ).to(device)
        network.reseed([config.loop.seed, step, processes.rank])
        with autocast(device, config.precision):
            outputs = network(clips)
        return clip_loss(criterion, outputs, clips)

    predictor = build_predictor(config.sam2_config).to(device) if processes.first else None

    def validate(trained: nn.Module, step: int) -> float:
        assert predictor is not None
        predictor.load_state_dict(trained.state_dict())
        curves = [
            dice_by_threshold(
                stage_logits(predictor, pair, config, data, device),
                read_labels(pair, read_tomogram(pair.image, mode0=pair.mode0)),
            )
            for pair in data.held_out
        ]
        return best_threshold(curves)[1]

    groups = layered_groups(
        network,
        weight_decay=config.loop.weight_decay,
        encoder_rate=config.encoder_rate,
        layer_decay=config.layer_decay,
    )
    record = {
        "recipe": "etsam",
        "config": config.to_dict(),
        **data.record(),
        "start": None if start is None else start.name,
    }
    return run.fit(Learner(network=network, loss=loss, validate=validate, groups=groups), record)


def write_sam2_logits(
    config: TrainSam2Config, checkpoint: Path, data: TrainingPairs, runtime: Runtime
) -> None:
    """Write the stage-1 logits of every pair for stage 2; existing files are kept."""
    first = replace(config, stage=1)

    def build() -> Callable[[Pair], NDArray[np.float32]]:
        predictor = load_predictor(checkpoint, config.sam2_config, runtime.device)
        return lambda pair: stage_logits(predictor, pair, first, data, runtime.device)

    write_stage1_logits(data, runtime, build)


def stage_logits(
    predictor: VolumePredictor, pair: Pair, config: TrainSam2Config, data: TrainingPairs, device: torch.device
) -> NDArray[np.float32]:
    """Compute the (z, y, x) logits of a pair's tomogram as `cryoseg segment` does."""
    values = read_tomogram(pair.image, mode0=pair.mode0).data
    out = np.empty(values.shape, np.float32)
    if config.stage == 2:
        out[:] = np.load(data.stage1_logits(pair))
    settings = SegmentConfig(
        stage1_prompt=config.stage1_prompt,
        stage2_prompt=config.stage2_prompt,
        prompt_interval=config.prompt_interval,
        normalize=config.normalize,
        stage1_threshold=PRESET_STAGE1_THRESHOLD[Preset.V1],
    )
    stage = StagePass(grey=_grey_map(pair, values, config, data), data=values, logits=out)
    execution = Execution(device=device, precision=config.precision)
    for _ in stage.run(predictor, config.stage, WHOLE, settings, execution):
        pass
    return out


def _grey_map(pair: Pair, values: NDArray[Any], config: TrainSam2Config, data: TrainingPairs) -> PlaneMap:
    """Return the map from the grey values of a pair's tomogram to the input of the network."""
    invert = (pair.polarity or data.polarity) is Polarity.BRIGHT
    return intensity_map(values, config.normalize, blank=find_blank(values), invert=invert)


def _slice_volume(pair: Pair, config: TrainSam2Config, data: TrainingPairs, on_event: OnEvent) -> SliceVolume:
    """Return a pair as a volume whose slices are read when they are needed."""
    tomogram = read_tomogram(pair.image, mode0=pair.mode0)
    check_finite(tomogram)
    labels = read_labels(pair, tomogram, on_event)
    values = tomogram.data
    stage1: NDArray[np.float16] | None = None
    if config.stage == 2:
        if data.logits is None:
            raise InputError(f"{pair.name}: stage 2 needs stage-1 logits; give the run with --stage1.")
        stage1 = np.load(data.stage1_logits(pair), mmap_mode="r")

    def prompt(z: int) -> BoolArray | None:
        kind = config.stage1_prompt if config.stage == 1 else config.stage2_prompt
        if config.prompts is ClipPrompts.SAM2:
            return None
        logits = None if stage1 is None else stage1[z]
        threshold = PRESET_STAGE1_THRESHOLD[Preset.V1]
        return prompt_mask(kind, values[z].shape, config.prompt_interval, logits, threshold)

    plane = stage_input(_grey_map(pair, values, config, data), values, stage1)
    return SliceVolume(name=pair.name, plane=plane, labels=labels, prompt=prompt)
