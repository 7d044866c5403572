"""Threshold and filter saved masks and logits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from cryoseg.config.common import OutputFormat, StoredOutputs
from cryoseg.config.segment import (
    PostprocessConfig,
)
from cryoseg.core.masks.binarize import VoxelKind, to_mask, voxel_kind
from cryoseg.core.masks.postprocess import postprocess_mask, why_emptied
from cryoseg.core.membranes.objects import find_objects
from cryoseg.errors import InputError, OutputError, naming
from cryoseg.events import Note, OnEvent, Report, Warn, ignore, warn_of
from cryoseg.io.images.pixel_size import PixelSize, settle_pixel_size
from cryoseg.io.images.volumes import made_by, read_mask, read_tomogram, write_mask
from cryoseg.io.inputs import output_stems, resolve_inputs, stem
from cryoseg.io.picks.copick_project import copick_output
from cryoseg.pipelines.batches.finished import Done, Job
from cryoseg.pipelines.batches.run import Batch, add_skipped, run_batch
from cryoseg.pipelines.segment.band import check_band, to_band
from cryoseg.pipelines.segment.saved import KIND, recorded_steps, recorded_threshold
from cryoseg.types import BoolArray, Tomogram


def postprocess_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    config: PostprocessConfig,
    *,
    written: StoredOutputs = StoredOutputs(),
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Write `<stem>_post_processed_mask` in the format of the outputs, and its record, for every input.

    `<name>_membrane_logits.mrc` and `<name>_membrane_mask.mrc` give
    `<name>_membrane_post_processed_mask.mrc`; without steps, they give `<name>_membrane_mask.mrc`.

    `config` holds the steps and their settings, and `written` the form of the masks. The other parameters,
    the rows and the errors are those of `segment_files`.
    """
    # Masks and logits are outputs of segment, which other commands leave out of folders.
    items = resolve_inputs(inputs, leave_out=re.compile(r"_(?:post_processed_mask|uncertainty|components)\."))
    stems = output_stems(item.path for item in items if item.is_new)
    outputs = {
        path: output_dir / f"{output_name(name, has_steps=config.steps != ())}{written.output_format.suffix}"
        for path, name in stems.items()
    }
    chosen: dict[Path, Path] = {}
    # Logits are preferred to the mask that was computed from them.
    for path in sorted(outputs, key=lambda path: "_logits." not in path.name.lower()):
        chosen.setdefault(outputs[path], path)

    project = copick_output(written.copick, inputs, kind="segmentation", overwrite=batch.overwrite)

    def plan(path: Path) -> Job:
        _refuse_others(path, outputs[path], overwrite=batch.overwrite)
        return _job(path, outputs[path], config, written.output_format)

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        done = _write_one(path, outputs["mask"], config, written, on_event)
        if project is not None:
            project.write_segmentation(path, read_mask(outputs["mask"]).data > 0)
        return done

    left_out = [path for path in outputs if chosen[outputs[path]] != path]
    report = run_batch(
        [item for item in items if item.path not in left_out],
        work,
        plan=plan,
        examine=lambda path: _read_mask(path, config, on_event),
        batch=replace(batch, folder=output_dir, project=project),
        on_event=on_event,
    )
    reasons = {
        path: f"{chosen[outputs[path]].name} gives {outputs[path].name} and is used instead"
        for path in left_out
    }
    return add_skipped(report, reasons, on_event)


def _job(path: Path, output: Path, config: PostprocessConfig, output_format: OutputFormat) -> Job:
    settings = asdict(config)
    for name in ("drop_components", "keep_components"):
        # Without a choice the record is that of earlier versions.
        if not settings[name]:
            del settings[name]
    if config.steps is None:
        settings["steps"] = recorded_steps(path)[0]
    if config.logit_threshold is None:
        # A mask has no threshold; logits have that of their record.
        del settings["logit_threshold"]
        if "_logits." in path.name.lower():
            settings["logit_threshold"] = recorded_threshold(path)[0]
    identity = {"command": "postprocess", "settings": settings, "output_format": output_format}
    return Job(
        path=path,
        outputs={"mask": output, "record": _own_record(output)},
        identity=identity,
        options={"inputs": [path.absolute()]},
    )


def _refuse_others(path: Path, output: Path, *, overwrite: bool) -> None:
    """Refuse to replace the input, or a mask that `cryoseg segment` wrote under the same name."""
    if output.exists() and output.resolve() == path.resolve():
        raise InputError(f"{path}: the output would replace the input. Choose another --output-dir.")
    if output.exists() and not _own_record(output).exists() and not overwrite:
        raise OutputError(
            f"{output}: exists already, without a record of `cryoseg postprocess` beside it. Pass "
            "--overwrite to replace it, or choose another --output-dir."
        )


def _own_record(output: Path) -> Path:
    return output.with_name(f"{stem(output)}.json")


def output_name(name: str, *, has_steps: bool) -> str:
    """Return the name of the output, without suffix, for an input with the stem `name`."""
    suffix = "post_processed_mask" if has_steps else "mask"
    if (match := KIND.search(name)) and match["what"]:
        return f"{name[: match.start()]}_{match['what']}_{suffix}"
    return f"{name}_{suffix}"


def _read_mask(
    path: Path, config: PostprocessConfig, on_event: OnEvent
) -> tuple[Tomogram, BoolArray, PostprocessConfig]:
    """Return the volume, its mask, and the settings with the threshold of logits."""
    tomogram = read_tomogram(path, mode0=config.mode0)
    check_band(path, config.band_width_nm, _pixel_size(tomogram, config))
    warn_of(path.name, tomogram.warnings, on_event)
    settings = config
    if config.steps is None:
        steps, origin = recorded_steps(path)
        on_event(Note(text=f"{path.name}: the steps are {', '.join(steps)} ({origin})."))
        settings = replace(config, steps=steps)
    is_logits = voxel_kind(tomogram.data) is VoxelKind.LOGITS
    if is_logits and config.logit_threshold is None:
        threshold, origin = recorded_threshold(path)
        on_event(Note(text=f"{path.name}: logits above {threshold:g} are membrane ({origin})."))
        settings = replace(settings, logit_threshold=threshold)
    with naming(path):
        mask = to_mask(tomogram.data, logit_threshold=settings.logit_threshold)
    if not is_logits and config.logit_threshold is not None:
        on_event(Warn(text=f"{path.name}: is a mask, for which --logit-threshold has no effect."))
    return tomogram, mask, settings


def _pixel_size(tomogram: Tomogram, config: PostprocessConfig) -> PixelSize:
    # A pixel size that had to be assumed is refused where it is used.
    return settle_pixel_size(tomogram, override=config.pixel_size, assumed=0.0)[0]


def _write_one(
    path: Path, output: Path, config: PostprocessConfig, written: StoredOutputs, on_event: OnEvent
) -> Done:
    tomogram, mask, settings = _read_mask(path, config, on_event)
    is_logits = voxel_kind(tomogram.data) is VoxelKind.LOGITS
    before = float(mask.mean())
    result = postprocess_mask(mask, settings.steps or (), settings)
    if config.drop_components or config.keep_components:
        with naming(path):
            chosen = find_objects(result).chosen(drop=config.drop_components, keep=config.keep_components)
        result = chosen.labels > 0
    if reason := why_emptied(mask, result, settings):
        on_event(Warn(text=f"{path.name}: {reason}"))
    if settings.band_width_nm is not None:
        size = _pixel_size(tomogram, settings).angstrom
        result = to_band(result, settings.band_width_nm, size, name=path.name, on_event=on_event)
    after = float(result.mean())
    write_mask(
        output,
        result,
        tomogram.geometry,
        label=made_by("postprocess"),
        output_format=written.output_format,
    )
    record = {
        "input": {"is_logits": is_logits, "shape_zyx": tomogram.data.shape},
        "settings": asdict(settings),
        "fraction_marked_before": before,
        "fraction_marked": after,
    }
    columns = {
        "threshold": f"{settings.logit_threshold:g}" if is_logits else "-",
        "before": f"{before:.3%}",
        "after": f"{after:.3%}",
    }
    return Done(record=record, columns=columns, message=output.name)
