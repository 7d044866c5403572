"""Options of the commands of `cryoseg evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cryoseg.config import ModelChoice, Preset, SegmentConfig, SegmentOutputs, SegmentRequest
from cryoseg.config.invocation import Invocation, invoked
from cryoseg.config.segment import PRESET_POSTPROCESS
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError
from cryoseg.io.inputs import expand_home

if TYPE_CHECKING:
    from cryoseg.events import OnEvent, Row
    from cryoseg.pipelines.batches.run import Batch

Also = Annotated[
    tuple[str, ...],
    setting(help="NAME=PRED: another method on the same files, to compare; repeat for several."),
]
Name = Annotated[str, setting(help="Name of PRED in tables.")]
Outputs = Annotated[
    tuple[Path, ...],
    setting(help="Write .csv, .json or .html; repeat for several.", flags=("--output", "-o")),
]

model_output_setting = partial(
    setting, Path(), help="With --model: folder for its outputs; finished ones are used."
)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Settings):
    """Settings of the segmentation of tomograms that are scored."""

    model_output: Path = model_output_setting()
    preset: Preset = setting(SegmentConfig.preset, help="With --model: ETSAM's published settings.")
    post_process: bool = setting(False, help="With --model: score filtered masks.")

    def segment(
        self,
        tomograms: Sequence[str | Path],
        model: str,
        config: SegmentConfig,
        *,
        outputs: SegmentOutputs,
        batch: Batch,
        on_event: OnEvent,
    ) -> list[Row]:
        """Segment tomograms and return their rows; logits are written if they are scored."""
        from cryoseg.pipelines.evaluate.model import segment_first  # imports torch

        store_logits = config.logit_threshold is not None and not self.post_process
        options = {
            "preset": self.preset.value,
            "pixel-size": config.pixel_size,
            "logit-threshold": config.logit_threshold,
            "post-process": self.post_process,
            "store-logits": store_logits,
            "mode0": outputs.mode0.value,
        }
        steps = PRESET_POSTPROCESS[self.preset] if self.post_process else ()
        request = SegmentRequest(
            config=replace(config, preset=self.preset, postprocess=steps),
            choice=ModelChoice().named(model),
            outputs=replace(outputs, store_logits=store_logits),
        )
        with invoked(Invocation(command="segment", options=options)):
            return segment_first(tomograms, self.model_output, request, batch=batch, on_event=on_event)


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
