"""`cryoseg pick` on micrographs: files in; masks, coordinates, pictures and provenance out."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from cryoseg import __version__
from cryoseg.config.pick import PickFormat
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.io.inputs import output_stems, resolve_inputs
from cryoseg.io.micrographs import MICROGRAPH_SUFFIXES, TIFF_SUFFIXES, read_micrograph
from cryoseg.io.outputs import make_folder
from cryoseg.io.picks import SUFFIXES, read_picks, write_picks
from cryoseg.io.provenance import hash_file, write_provenance
from cryoseg.io.volumes import made_by, write_logits, write_mask
from cryoseg.models.device import describe, peak_device_memory
from cryoseg.models.particle_model import ParticleModel
from cryoseg.pipelines.batch import run_batch
from cryoseg.pipelines.events import Note, OnEvent, Report, Row, Status, Warn, ignore
from cryoseg.pipelines.pick_micrograph import MicrographPickResult, pick_micrograph
from cryoseg.types import Micrograph, Picks
from cryoseg.view.micrograph_overlay import write_overlay

COLUMNS = ("picks", "mean score", "particle", "peak memory")
# What `csv` means for a micrograph: the table of its own that CryoPPP has.
_MICROGRAPH_FORMAT = {PickFormat.CSV: PickFormat.CRYOPPP}
COMBINED_NAME = "particles"
OWN_OUTPUTS = re.compile(r"_particles_(mask|logits|overlay|heat_map|preview)\.|_labels\.mrc", re.I)


def pick_micrograph_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    model: ParticleModel,
    config: MicrographPickConfig,
    *,
    outputs: MicrographPickOptions | None = None,
    on_event: OnEvent = ignore,
) -> Report:
    """Pick every micrograph and write its outputs.

    Parameters
    ----------
    inputs
        What the user typed: files, folders, globs, lists.
    output_dir
        Made if missing.
    model
        From `load_particle_model`.
    config, outputs
        How, and what to write.
    on_event
        Told everything.

    Returns
    -------
    Report
        One row per input; a broken one is a failed row.
    """
    outputs = outputs or MicrographPickOptions()
    recipe = model.recipe
    threshold = recipe.logit_threshold if config.logit_threshold is None else config.logit_threshold
    on_event(
        Note(
            text=f"Model: {model.name} (tiles of {recipe.image_size} pixels, particles of "
            f"{recipe.particle_pixels:g}, logit threshold {threshold:g})."
        )
    )
    for key, value in asdict(config).items():
        on_event(Note(text=f"{key}: {value}", detail=True))
    make_folder(output_dir)
    items = resolve_inputs(inputs, suffixes=MICROGRAPH_SUFFIXES, leave_out=OWN_OUTPUTS)
    good = [item.path for item in items if not item.error]
    _warn_of_flipped_rows(good, on_event)
    stems = output_stems(good, suffixes=MICROGRAPH_SUFFIXES)
    found: dict[str, Picks] = {}

    def one(path: Path) -> Row:
        paths = _paths(output_dir, stems[path], outputs)
        if not outputs.overwrite and all(file.exists() for file in paths.values()):
            found.update(_kept(paths))
            return Row(
                name=path.name,
                status=Status.SKIPPED,
                outputs=tuple(paths.values()),
                message="finished outputs are kept; --overwrite replaces them",
            )
        row, picks = _pick_one(path, paths, model, config, on_event)
        found[path.as_posix()] = picks
        return row

    report = run_batch(items, one, on_event=on_event)
    if outputs.combined and len(found) > 1:
        for flavor in outputs.formats:
            if SUFFIXES[flavor] == ".star":
                middle = flavor.value.removeprefix("star")
                name = f"{COMBINED_NAME}_{middle}.star" if middle else f"{COMBINED_NAME}.star"
                write_picks(output_dir / name, found, flavor=flavor, overwrite=True)
    return report


def _warn_of_flipped_rows(paths: Sequence[Path], on_event: OnEvent) -> None:
    if any(path.suffix.lower() in TIFF_SUFFIXES for path in paths):
        on_event(
            Warn(
                text="Coordinates count rows as the TIFF stores them; RELION and EMAN read TIFF upside down. "
                "For these, use MRC images, or `cryoseg convert --flip-y --image FILE.tif`."
            )
        )


def _paths(folder: Path, name: str, outputs: MicrographPickOptions) -> dict[str, Path]:
    """Every file of one input, by kind; the record comes last."""
    base = f"{name}_particles"
    paths: dict[str, Path] = {}
    for chosen in outputs.formats:
        flavor = _MICROGRAPH_FORMAT.get(chosen, chosen)
        middle = "_cryosparc" if flavor is PickFormat.CRYOSPARC else ""
        paths[flavor.value] = folder / f"{base}{middle}{SUFFIXES[flavor]}"
    for kind, wanted, ending in (
        ("mask", outputs.mask, "mask.mrc"),
        ("logits", outputs.logits, "logits.mrc"),
        ("overlay", outputs.overlay, "overlay.png"),
    ):
        if wanted:
            paths[kind] = folder / f"{base}_{ending}"
    paths["record"] = folder / f"{base}.json"
    return paths


def _kept(paths: Mapping[str, Path]) -> dict[str, Picks]:
    """Picks of a finished micrograph, for the STAR of the whole run."""
    for kind in (PickFormat.STAR, PickFormat.CRYOSPARC):
        if kind.value in paths:
            return {name: picks for name, picks in read_picks(paths[kind.value]).items() if name}
    return {}


def _pick_one(
    path: Path,
    paths: Mapping[str, Path],
    model: ParticleModel,
    config: MicrographPickConfig,
    on_event: OnEvent,
) -> tuple[Row, Picks]:
    begun = time.monotonic()
    micrograph = read_micrograph(path, pixel_size=config.pixel_size)
    if config.particle_diameter_px is None or config.border_angstrom or config.min_distance_angstrom:
        for warning in micrograph.warnings:
            on_event(Warn(text=f"{path.name}: {warning}"))
    result = pick_micrograph(micrograph, model, config, on_event=on_event)
    for rule, count in result.dropped.items():
        on_event(Note(text=f"{path.name}: --{rule} dropped {count} picks.", detail=True))
    picked = time.monotonic()
    _write(paths, micrograph, result, path)
    peak = _peak_bytes(model.device)
    picks = result.picks
    mean = float(picks.scores.mean()) if picks.scores is not None and len(picks) else 0.0
    record = {
        "cryoseg": __version__,
        "command": "pick",
        "input": {
            "name": path.name,
            "sha256": hash_file(path),
            "shape_yx": result.shape,
            "pixel_size": picks.pixel_size,
        },
        "model": {"name": model.name, "sha256": model.hashes, "recipe": asdict(model.recipe)},
        "settings": asdict(config),
        "logit_threshold": result.logit_threshold,
        "particle_diameter_px": result.diameter_px,
        "view_shape_yx": result.logits.shape,
        "picks": len(picks),
        "candidates": result.candidates,
        "dropped": result.dropped,
        "mean_score": mean,
        "device": describe(model.device),
        "precision": model.precision,
        "seconds": {"pick": round(picked - begun, 2), "write": round(time.monotonic() - picked, 2)},
        "peak_memory_bytes": peak,
        "outputs": {kind: file.name for kind, file in paths.items() if kind != "record"},
        "warnings": list(micrograph.warnings),
        "torch": torch.__version__,
    }
    write_provenance(paths["record"], record, overwrite=True)
    row = Row(
        name=path.name,
        status=Status.DONE,
        figures={
            "picks": str(len(picks)),
            "mean score": f"{mean:.2f}" if len(picks) else "-",
            "particle": f"{result.diameter_px:.0f} px",
            "peak memory": f"{peak / 2**30:.2f} GiB",
        },
        outputs=tuple(paths.values()),
        message="" if len(picks) else "no particle above the thresholds",
    )
    return row, picks


def _write(
    paths: Mapping[str, Path], micrograph: Micrograph, result: MicrographPickResult, path: Path
) -> None:
    # The record is the mark of completion: without it, older pieces of this output are replaced.
    paths["record"].unlink(missing_ok=True)
    label = made_by("pick")
    if "mask" in paths or "logits" in paths:
        logits = result.native_logits()
        if "mask" in paths:
            mask = logits > result.logit_threshold
            write_mask(paths["mask"], mask[None], micrograph.geometry, label=label, overwrite=True)
        if "logits" in paths:
            write_logits(paths["logits"], logits[None], micrograph.geometry, label=label, overwrite=True)
    for kind, file in paths.items():
        if kind in tuple(PickFormat):
            write_picks(file, {path.as_posix(): result.picks}, flavor=PickFormat(kind), overwrite=True)
    if "overlay" in paths:
        write_overlay(paths["overlay"], micrograph.data, result.picks, overwrite=True)


def _peak_bytes(device: torch.device) -> int:
    """Largest memory of this process so far, plus that of the device."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = kilobytes if sys.platform == "darwin" else kilobytes * 1024
    return own + peak_device_memory(device)
