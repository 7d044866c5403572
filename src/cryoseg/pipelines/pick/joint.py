"""Files of all images of a batch: joint STAR files, and those by which RELION finds coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryoseg.config.pick import PickFormat, PickOutputs
from cryoseg.config.pick_micrograph import MicrographPickOptions
from cryoseg.events import Report, Status
from cryoseg.io.images.tiff import TIFF_SUFFIXES
from cryoseg.io.inputs import InputItem
from cryoseg.io.outputs import lock
from cryoseg.io.picks.names import distinct_names
from cryoseg.io.picks.relion_index import (
    AUTOPICK,
    IMPORT_INDEX,
    in_project,
    write_autopick,
    write_import_index,
)
from cryoseg.io.picks.relion_star import join_stars
from cryoseg.io.records import read_record
from cryoseg.pipelines.batches.run import Batch

RELION_FORMATS = (PickFormat.STAR_RELION4, PickFormat.STAR_RELION5)

# Output files by kind, of every image.
Paths = Mapping[Path, Mapping[str, Path]]


def write_joint_files(
    folder: Path,
    items: Sequence[InputItem],
    report: Report,
    paths: Paths,
    outputs: PickOutputs | MicrographPickOptions,
    *,
    batch: Batch,
) -> None:
    """Join the finished STAR files of all images in one file for each format, and write the files of RELION.

    A process that does not see all images, and an interrupted one, write nothing. There is a joint file of
    two or more images, and in frames of RELION if all tomograms have the same voxel size. The particles that
    RELION takes together with the tomograms are written in any case.

    `paths` holds the output files of every image by kind. Existing files in `folder` are replaced, and images
    that failed are left out.
    """
    if not outputs.combined or not batch.is_whole or report.interrupted_by is not None:
        return
    is_deep = isinstance(outputs, PickOutputs)
    failed = {row.path for row in report.rows if row.status is Status.FAILED}
    names = dict(zip(paths, distinct_names([*paths], bare=is_deep), strict=True))
    good = {path: own for path, own in paths.items() if path not in failed}
    for flavor in outputs.written:
        if flavor.suffix != ".star" or flavor.traits.marker:
            continue
        is_set = outputs.relion and flavor is PickFormat.STAR_RELION5
        if flavor in RELION_FORMATS and not is_set and len(_voxel_sizes(good)) > 1:
            continue
        output = folder / f"particles{flavor.tag}.star"
        # Of several processes, the last one sees all files.
        with lock(output, on_wait=lambda: None):
            stars = _finished(good, flavor)
            if len(stars) >= (1 if is_set else 2):
                join_stars({star: names[path] for path, star in stars.items()}, output)
    if outputs.relion:
        entries = (item.listed for item in items if item.listed is not None)
        project = next((one.project for one in entries if not Path(one.name).is_absolute()), Path())
        index = folder / (IMPORT_INDEX if is_deep else AUTOPICK)
        with lock(index, on_wait=lambda: None):
            if is_deep:
                stars = _finished(good, PickFormat.STAR_RELION5)
                write_import_index(index, [*stars.values()], project=project)
            else:
                listed = {item.path: item.listed.name for item in items if item.listed is not None}
                stars = _finished(good, PickFormat.STAR)
                names = {path: listed.get(path) or in_project(path, project) for path in stars}
                rows = {
                    names[path]: read_record(good[path]["record"])["input"]["shape_yx"][0]
                    for path in stars
                    if path.suffix.lower() in TIFF_SUFFIXES
                }
                picked = {names[path]: star for path, star in stars.items()}
                write_autopick(folder, picked, project=project, reversed_rows=rows)


def _finished(paths: Paths, flavor: PickFormat) -> dict[Path, Path]:
    """Return the STAR file of every finished image."""
    stars = {path: own[flavor.value] for path, own in paths.items() if own["record"].exists()}
    return {path: star for path, star in stars.items() if star.exists()}


def _voxel_sizes(paths: Paths) -> set[str]:
    records = [own["record"] for own in paths.values() if own["record"].exists()]
    return {str(read_record(record)["input"].get("voxel_size_zyx")) for record in records}
