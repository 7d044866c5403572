"""Options of the commands of `cryoseg evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cryoseg.config import (
    EvaluateConfig,
    Mode0,
    ModelChoice,
    Preset,
    SegmentConfig,
    SegmentOutputs,
    SegmentRequest,
)
from cryoseg.config.batch import ALL
from cryoseg.config.common import device_setting, mode0_setting
from cryoseg.config.evaluate import EvaluatePicksConfig
from cryoseg.config.invocation import Invocation, invoked
from cryoseg.config.pick import PickFormat, PickOutputs, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.config.segment import PRESET_POSTPROCESS
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError
from cryoseg.io.inputs import expand_home

if TYPE_CHECKING:
    from cryoseg.events import OnEvent, Row
    from cryoseg.pipelines.batches.run import Batch

Also = Annotated[
    tuple[str, ...],
    setting(help="Another method on the same files, as NAME=PRED, to compare with; repeat for several."),
]
Name = Annotated[str, setting(help="Name of PRED in tables.")]
Outputs = Annotated[
    tuple[Path, ...],
    setting(help="Write .csv, .json or .html; repeat for several.", flags=("--output", "-o")),
]

model_output_setting = partial(
    setting, Path(), help="With --model: folder of its outputs, of which finished ones are used."
)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Settings):
    """Settings of the segmentation of tomograms that are scored."""

    model_output: Path = model_output_setting()
    preset: Preset = setting(SegmentConfig.preset, help="With --model: ETSAM's published settings.")
    post_process: bool = setting(False, help="With --model: score the filtered masks.")

    def segment(
        self,
        tomograms: Sequence[str | Path],
        model: str,
        config: EvaluateConfig,
        *,
        pixel_size: float | None,
        batch: Batch,
        on_event: OnEvent,
    ) -> list[Row]:
        """Segment tomograms and return their rows; logits are written if they are scored."""
        from cryoseg.pipelines.evaluate.model import rows_to_score  # imports torch
        from cryoseg.pipelines.segment.files import segment_files

        store_logits = config.logit_threshold is not None and not self.post_process
        options = {
            "preset": self.preset.value,
            "pixel-size": pixel_size,
            "logit-threshold": config.logit_threshold,
            "post-process": self.post_process,
            "store-logits": store_logits,
            "mode0": config.mode0.value,
        }
        request = SegmentRequest(
            config=SegmentConfig(
                pixel_size=pixel_size,
                logit_threshold=config.logit_threshold,
                preset=self.preset,
                postprocess=PRESET_POSTPROCESS[self.preset] if self.post_process else (),
            ),
            choice=ModelChoice().named(model),
            outputs=SegmentOutputs(mode0=config.mode0, overwrite=batch.overwrite, store_logits=store_logits),
        )
        with invoked(Invocation(command="segment", options=options)):
            report = segment_files(tomograms, self.model_output, request, batch=batch, on_event=on_event)
        return rows_to_score(report)


@dataclass(frozen=True, kw_only=True)
class PickModelOptions(Settings):
    """Settings of the picking in images that are scored."""

    model: str | None = setting(
        None,
        help="Pick in PRED, which are images, first, with a model as `cryoseg pick` takes it.",
        shown="PRED are positions",
    )
    model_output: Path = model_output_setting()
    mode0: Mode0 = mode0_setting()
    device: str = device_setting()

    def pick(
        self, images: str, config: EvaluatePicksConfig, *, overwrite: bool, on_event: OnEvent
    ) -> list[Row]:
        """Pick particles in micrographs or tomograms, as the model was trained, and return their rows."""
        from cryoseg.pipelines.batches.run import Batch
        from cryoseg.pipelines.evaluate.model import rows_to_score
        from cryoseg.pipelines.pick.micrograph_files import MicrographPickRequest, pick_micrograph_files
        from cryoseg.pipelines.pick.route import Task, task_of  # torch starts here
        from cryoseg.pipelines.pick.tomogram_files import TomogramPickRequest, pick_files

        assert self.model is not None
        size, mode0, batch = config.pixel_size, self.mode0, Batch(shard=ALL, device=self.device)
        options: dict[str, Any] = {"pixel-size": size, "mode0": mode0.value, "preview": False}
        if task_of(self.model) is Task.TOMOGRAMS:
            outputs = PickOutputs(
                formats=(PickFormat.CSV,), preview=False, combined=False, overwrite=overwrite
            )
            deep = TomogramPickRequest(
                model=Path(self.model),
                config=TomogramPickConfig(mode0=mode0),
                outputs=outputs,
                pixel_size=size,
            )
            options |= {"format": [PickFormat.CSV.value]}
            with invoked(Invocation(command="pick", options=options)):
                report = pick_files([images], self.model_output, deep, batch=batch, on_event=on_event)
        else:
            diameter = config.diameter_angstrom
            flat = MicrographPickRequest(
                model=self.model,
                config=MicrographPickConfig(
                    particle_diameter_angstrom=diameter, pixel_size=size, mode0=mode0
                ),
                outputs=MicrographPickOptions(mask=False, overlay=False, combined=False, overwrite=overwrite),
            )
            options |= {"particle-diameter": diameter, "store-mask": False}
            with invoked(Invocation(command="pick", options=options)):
                report = pick_micrograph_files(
                    [images], self.model_output, flat, batch=batch, on_event=on_event
                )
        return rows_to_score(report)


def named_methods(name: str, pred: str, also: Sequence[str]) -> dict[str, str]:
    """Return the predictions of the main method and of those of `--also` by name."""
    methods = {name: pred}
    for entry in also:
        other, separator, files = entry.partition("=")
        if not separator or not other or not files:
            raise ConfigError(f"--also {entry}: give NAME=PRED, such as membrain=results/membrain.")
        if other in methods:
            raise ConfigError(
                f"--also {entry}: the name {other} is used already. Give each method its own name."
            )
        methods[other] = str(expand_home(files))
    return methods
