"""Threshold and filter saved masks and logits again, without a model."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config import Preset
from cryoseg.config.postprocess import PostprocessConfig
from cryoseg.config.segment import PRESET_LOGIT_THRESHOLD
from cryoseg.core.binarize import VoxelKind, to_mask, voxel_kind
from cryoseg.core.postprocess import postprocess_mask
from cryoseg.errors import CryosegError, InputError
from cryoseg.io.inputs import InputItem, output_stems, resolve_inputs
from cryoseg.io.outputs import make_folder
from cryoseg.io.provenance import hash_file, read_provenance, write_provenance
from cryoseg.io.volumes import made_by, read_tomogram, write_mask
from cryoseg.pipelines.events import Note, OnEvent, Report, Row, StageProgress, Status, Warn, ignore

# What a name that `cryoseg segment` or ETSAM's script gave ends with.
_KIND = re.compile(
    r"_(?P<what>membrane|etsam(?:_split_processing)?_predicted)_(?:mask|logits|post_processed_mask)$", re.I
)


def postprocess_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    config: PostprocessConfig,
    *,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> Report:
    """Write `<stem>_post_processed_mask.mrc`, with a .json beside it, for every input.

    `<name>_membrane_logits.mrc` and `<name>_membrane_mask.mrc` give
    `<name>_membrane_post_processed_mask.mrc`; without steps it is `<name>_membrane_mask.mrc`.

    Parameters
    ----------
    inputs
        What the user typed: files, folders, globs, lists.
    output_dir
        Made if missing.
    config
        Steps and their lengths.
    overwrite
        Replace outputs; they are kept otherwise, and the row is `SKIPPED`.
    on_event
        Told progress, notes and rows.

    Returns
    -------
    Report
        One row per input; a broken input is a failed row and stops nothing.

    Raises
    ------
    OutputError
        If the output folder cannot be made.
    """
    make_folder(output_dir)
    # In a folder, every volume may be meant; masks and logits are the very outputs of segment.
    items = resolve_inputs(inputs, leave_out=re.compile(r"_post_processed_mask\."))
    stems = output_stems(item.path for item in items if item.error is None)
    rows = []
    chosen: dict[Path, Path] = {}
    # Logits come first: they say more than the mask that was made from them.
    for path in sorted(stems, key=lambda path: "_logits." not in path.name.lower()):
        chosen.setdefault(output_dir / output_name(stems[path], has_steps=bool(config.steps)), path)
    for done, item in enumerate(items):
        on_event(
            StageProgress(name="Post-processing", stage="files", done=done, total=len(items), unit="files")
        )
        row = _postprocess_item(
            item, stems.get(item.path, ""), output_dir, config, overwrite, chosen, on_event
        )
        on_event(row)
        rows.append(row)
    on_event(
        StageProgress(name="Post-processing", stage="files", done=len(items), total=len(items), unit="files")
    )
    return Report(rows=rows)


def output_name(stem: str, *, has_steps: bool) -> str:
    """Name of the output for an input of this stem."""
    suffix = "post_processed_mask" if has_steps else "mask"
    if match := _KIND.search(stem):
        return f"{stem[: match.start()]}_{match['what']}_{suffix}.mrc"
    return f"{stem}_{suffix}.mrc"


def _postprocess_item(
    item: InputItem,
    stem: str,
    output_dir: Path,
    config: PostprocessConfig,
    overwrite: bool,
    chosen: dict[Path, Path],
    on_event: OnEvent,
) -> Row:
    begun = time.monotonic()
    name = item.path.name
    try:
        if item.error is not None:
            raise InputError(item.error)
        output = output_dir / output_name(stem, has_steps=bool(config.steps))
        if chosen[output] != item.path:
            return Row(
                name=name,
                status=Status.SKIPPED,
                message=f"{chosen[output].name} gives {output.name} and is taken instead",
            )
        if output.exists() and output.resolve() == item.path.resolve():
            raise InputError(f"{item.path}: the output would replace the input. Choose another --output-dir.")
        if output.exists() and not overwrite:
            return Row(
                name=name,
                status=Status.SKIPPED,
                outputs=(output,),
                message=f"{output.name} exists already and is kept; --overwrite replaces it",
            )
        figures = _write_one(item.path, output, config, overwrite, on_event)
        return Row(
            name=name,
            status=Status.DONE,
            seconds=time.monotonic() - begun,
            figures=figures,
            outputs=(output, output.with_suffix(".json")),
            message=output.name,
        )
    except CryosegError as error:
        return Row(name=name, status=Status.FAILED, seconds=time.monotonic() - begun, message=str(error))


def _write_one(
    path: Path, output: Path, config: PostprocessConfig, overwrite: bool, on_event: OnEvent
) -> dict[str, str]:
    tomogram = read_tomogram(path)
    for warning in tomogram.warnings:
        on_event(Warn(text=f"{path.name}: {warning}"))
    settings = config
    is_logits = voxel_kind(tomogram.data) is VoxelKind.LOGITS
    if is_logits and config.logit_threshold is None:
        threshold, source = recorded_threshold(path)
        on_event(Note(text=f"{path.name}: logits above {threshold:g} are membrane ({source})."))
        settings = replace(config, logit_threshold=threshold)
    try:
        mask = to_mask(tomogram.data, logit_threshold=settings.logit_threshold)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not is_logits and config.logit_threshold is not None:
        on_event(Warn(text=f"{path.name}: holds a mask, so --logit-threshold changes nothing."))
    before = float(mask.mean())
    result = postprocess_mask(mask, settings.steps, settings)
    after = float(result.mean())
    write_mask(output, result, tomogram.geometry, label=made_by("postprocess"), overwrite=overwrite)
    record: dict[str, Any] = {
        "version": __version__,
        "command": "postprocess",
        "input": path.name,
        "input_sha256": hash_file(path),
        "input_is_logits": is_logits,
        "settings": settings if is_logits else replace(settings, logit_threshold=None),
        "fraction_marked_before": before,
        "fraction_marked": after,
    }
    write_provenance(output.with_suffix(".json"), record, overwrite=True)
    threshold_text = f"{settings.logit_threshold:g}" if is_logits else "-"
    return {"threshold": threshold_text, "before": f"{before:.3%}", "after": f"{after:.3%}"}


def recorded_threshold(path: Path) -> tuple[float, str]:
    """The threshold in the .json that lies beside logits of `cryoseg segment`, and where it is from.

    Parameters
    ----------
    path
        Of the logits; where nothing is recorded the threshold is ETSAM's.
    """
    fallback = PRESET_LOGIT_THRESHOLD[Preset.V1]
    name = path.name.split("_logits.", 1)[0] + ".json"
    beside = path.with_name(name)
    if name == path.name + ".json" or not beside.is_file():
        return fallback, "ETSAM's default, since no record lies beside it; --logit-threshold changes it"
    found = _find_number(read_provenance(beside), "logit_threshold")
    if found is None:
        return fallback, f"ETSAM's default, since {name} records none; --logit-threshold changes it"
    return found, f"recorded in {name}"


def _find_number(record: dict[str, Any], key: str) -> float | None:
    """The first number under `key`, at the top of the record or in one of its sections."""
    for section in (record, *(value for value in record.values() if isinstance(value, dict))):
        value = section.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
