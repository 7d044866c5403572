"""Place oriented points on the membranes of masks, and write their coordinates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from cryoseg.config.pick_membrane import MembranePickConfig, MembraneSide
from cryoseg.core.membranes.objects import Objects, find_objects
from cryoseg.core.membranes.sampling import SurfacePoints, even_points, orientations
from cryoseg.core.membranes.surfaces import COMPONENT_COLUMN, surfaces_of
from cryoseg.events import OnEvent, Report, ignore
from cryoseg.io.inputs import InputItem, output_stems, resolve_inputs, stem
from cryoseg.pipelines.batches.finished import Done, Job
from cryoseg.pipelines.batches.run import Batch, add_skipped, run_batch
from cryoseg.pipelines.pick.coordinates import PickedObject, PicksRequest, output_paths
from cryoseg.pipelines.pick.joint import write_joint_files
from cryoseg.pipelines.segment.saved import KIND, MembraneVolume, read_membranes, tomogram_stem
from cryoseg.types import Picks
from cryoseg.view.previews import ShownPicks, draw_picks
from cryoseg.view.sections import write_png

# Of several files of a tomogram, the first of these is taken.
_PREFERRED = ("post_processed_mask", "mask", "logits")


@dataclass(frozen=True, kw_only=True)
class MembranePickRequest(PicksRequest):
    """Request to place points on membranes.

    Attributes
    ----------
    config
        Spacing, side and seed.
    """

    config: MembranePickConfig = field(default_factory=MembranePickConfig)


def pick_on_membranes(
    inputs: Sequence[str | Path],
    output_dir: Path,
    request: MembranePickRequest,
    *,
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Place points on the membranes of every mask and write their coordinates.

    Of several masks and logits of a tomogram, the post-processed mask is taken, or else the mask. The other
    parameters, the rows and the errors are those of `segment_files`.
    """
    request, outputs = request.prepared(inputs), request.outputs
    items, unused = _one_of_each(resolve_inputs(inputs, leave_out=re.compile(r"_components\.")))
    good = [item.path for item in items if item.is_new]
    listed = {item.path: item.listed for item in items if item.listed is not None}
    stems = {path: KIND.sub("", name) for path, name in output_stems(good).items()}
    paths = {path: output_paths(output_dir, stems[path], outputs) for path in good}

    def own(path: Path) -> MembranePickRequest:
        mine = request.of_tomogram(path, listed.get(path))
        return replace(mine, tomogram=mine.tomogram or tomogram_stem(path))

    def plan(path: Path) -> Job:
        mine = own(path)
        identity = {"command": "pick", "settings": asdict(mine.config), **mine.identity(path)}
        return Job(path=path, outputs=paths[path], identity=identity, options=mine.options(path))

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        return _pick_one(path, outputs, own(path), on_event=on_event)

    report = run_batch(
        items,
        work,
        plan=plan,
        examine=lambda path: _read(path, own(path), on_event),
        batch=replace(batch, overwrite=outputs.overwrite, folder=output_dir, project=request.project),
        on_event=on_event,
    )
    add_skipped(report, {path: f"{taken.name} is used instead" for path, taken in unused.items()}, on_event)
    write_joint_files(output_dir, items, report, paths, outputs, batch=batch)
    return report


def points_on_membranes(objects: Objects, voxel_size: float, config: MembranePickConfig) -> Picks:
    """Place oriented points on the membranes of a tomogram with a voxel size in angstrom.

    The rotations turn the z axis of the particle away from the membrane, and by a random angle about it. The
    points depend on the seed and on the number of the membrane.
    """
    sides = (1.0,) if config.side is MembraneSide.OUTER else (1.0, -1.0)
    centers, rotations, components = [np.empty((0, 3))], [np.empty((0, 3, 3))], [np.empty(0, np.int64)]
    for surface in surfaces_of(objects, voxel_size):
        rng = np.random.default_rng([config.seed, int(surface.component[0])])
        for side in sides:
            points: SurfacePoints = even_points(surface, config.spacing_angstrom, rng)
            ahead = side * points.normals
            centers.append((points.places + config.offset_angstrom * ahead) / voxel_size)
            rotations.append(orientations(ahead, rng))
            components.append(points.component)
    numbers = np.concatenate(components)
    return Picks(
        centers=np.concatenate(centers),
        rotations=np.concatenate(rotations),
        columns={COMPONENT_COLUMN: numbers.astype(str).astype(object)},
        shape=objects.labels.shape,
        pixel_size=voxel_size,
    )


def _one_of_each(items: Sequence[InputItem]) -> tuple[list[InputItem], dict[Path, Path]]:
    """Choose one of the masks and logits of each tomogram.

    Returns
    -------
    items : list of InputItem
        Those that are used, and those with errors.
    unused : dict
        The other files, with the file that is used instead.
    """
    best: dict[Path, tuple[int, Path]] = {}
    unused: dict[Path, Path] = {}
    found = [(item.path, match) for item in items if item.is_new and (match := KIND.search(stem(item.path)))]
    for path, match in sorted(found, key=lambda one: _PREFERRED.index(one[1]["kind"].lower())):
        tomogram = path.with_name(stem(path)[: match.start()])
        rank = _PREFERRED.index(match["kind"].lower())
        first = best.setdefault(tomogram, (rank, path))
        if first[0] != rank:
            unused[path] = first[1]
    return [item for item in items if item.path not in unused], unused


def _read(path: Path, request: MembranePickRequest, on_event: OnEvent) -> MembraneVolume:
    return read_membranes(
        path,
        pixel_size=request.pixel_size,
        logit_threshold=request.config.logit_threshold,
        mode0=request.config.mode0,
        on_event=on_event,
    )


def _pick_one(
    path: Path, outputs: Mapping[str, Path], request: MembranePickRequest, *, on_event: OnEvent
) -> Done:
    volume = _read(path, request, on_event)
    tomogram, objects = volume.source, find_objects(volume.marked)
    size = tomogram.geometry.voxel_size
    spacing = request.config.spacing_angstrom
    picks = points_on_membranes(objects, size[2], request.config)
    about = PickedObject(
        method="cryoseg pick --on-membrane",
        diameter_angstrom=spacing,
        marker_angstrom=spacing / 2,
        mask=path,
    )
    request.write(outputs, tomogram, picks, about)
    if "preview" in outputs:
        shown = ShownPicks(
            centers=picks.centers,
            diameter_voxels=(spacing / size[0] / 2, spacing / size[1] / 2, spacing / size[2] / 2),
        )
        write_png(outputs["preview"], draw_picks(volume.marked > 0, shown, pixel_size=size[2]))
    membranes = len(set(picks.columns[COMPONENT_COLUMN]))
    record = {
        "input": {"shape_zyx": tomogram.data.shape, "voxel_size_zyx": size},
        "picks": len(picks),
        "membranes": membranes,
        "components": len(objects),
    }
    message = "" if len(picks) else "no membrane was found: no component of the mask is a sheet"
    return Done(
        record=record, columns={"picks": str(len(picks)), "membranes": str(membranes)}, message=message
    )
