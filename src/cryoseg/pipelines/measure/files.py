"""Measure the membranes of masks, logits and labels, and write tables, pages, volumes and meshes."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from cryoseg.config.common import OutputFormat
from cryoseg.config.measure import Least, MeasureConfig, MeasureOutputs
from cryoseg.core.membranes.density import DensityThickness, density_thickness
from cryoseg.core.membranes.midsurface import Surface, mid_surface
from cryoseg.core.membranes.objects import Objects, fill_lumens, find_objects, mid_lines
from cryoseg.core.membranes.summary import Measures, measure
from cryoseg.errors import InputError, naming
from cryoseg.events import OnEvent, Report, StageProgress, Warn, ignore
from cryoseg.io.images.volumes import (
    made_by,
    read_tomogram,
    write_labels,
    write_mask,
)
from cryoseg.io.inputs import InputItem, listed_pixel_sizes, output_stems, resolve_inputs, stem
from cryoseg.io.meshes import require_mesh_libraries, write_mesh
from cryoseg.io.outputs import make_folder
from cryoseg.io.picks.copick_project import copick_output
from cryoseg.io.records import hash_file
from cryoseg.pipelines.batches.finished import Done, Job, named_outputs, peak_bytes
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.measure.points import measure_points, picks_of, write_points, write_ripley
from cryoseg.pipelines.measure.report import Measured, record_rows, write_page, write_table
from cryoseg.pipelines.segment.saved import MembraneVolume, read_membranes
from cryoseg.types import Tomogram

# Components are measured by this many threads; numpy and scipy release the lock for most of the time.
_THREADS = 2
_OWN = re.compile(r"_(?:labels|lumen|midline|measures)\.", re.I)


def measure_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    config: MeasureConfig = MeasureConfig(),
    *,
    written: MeasureOutputs = MeasureOutputs(),
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Measure every input, and write a table, a page, a record, and the chosen volumes and meshes.

    `inputs` are masks, logits or label volumes. The other parameters, the rows and the errors are those of
    `segment_files`.
    """
    if written.mesh or written.copick is not None:
        require_mesh_libraries()
    items = resolve_inputs(inputs, leave_out=_OWN)
    stems = output_stems([item.path for item in items if item.is_new])
    sizes = listed_pixel_sizes(items)
    tomograms = _match_tomograms(items, config.tomogram)
    project = copick_output(written.copick, inputs, kind="mesh", overwrite=written.overwrite)

    def own(path: Path) -> MeasureConfig:
        return replace(config, pixel_size=config.pixel_size or sizes.get(path))

    def plan(path: Path) -> Job:
        density = tomograms.get(path)
        return Job(
            path=path,
            outputs=output_paths(output_dir, stems[path], written, has_picks=config.picks is not None),
            identity={
                "command": "measure",
                "settings": {
                    **asdict(own(path)),
                    "min_volume": str(config.min_volume),
                    "picks": None,
                    "tomogram": None,
                },
                "picks": {"sha256": hash_file(config.picks)} if config.picks is not None else None,
                "mesh_fraction": written.mesh_fraction,
                "output_format": written.output_format,
                "tomogram": {"sha256": hash_file(density)} if density is not None else None,
            },
            options={
                "inputs": [path.absolute()],
                "tomogram": density.absolute() if density is not None else None,
                "pixel-size": own(path).pixel_size,
                "picks": config.picks.absolute() if config.picks is not None else None,
            },
        )

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        if project is None:
            return _measure_file(path, outputs, own(path), written, tomograms.get(path), on_event)
        with tempfile.TemporaryDirectory() as folder:
            mesh = Path(folder) / "mesh.glb"
            named = {**outputs, "copick": mesh}
            done = _measure_file(path, named, own(path), written, tomograms.get(path), on_event)
            project.write_mesh(path, mesh)
        return done

    return run_batch(
        items,
        work,
        plan=plan,
        examine=lambda path: _read(path, own(path), on_event),
        batch=replace(batch, overwrite=written.overwrite, folder=output_dir, project=project),
        on_event=on_event,
    )


def output_paths(folder: Path, stem: str, written: MeasureOutputs, *, has_picks: bool) -> dict[str, Path]:
    """Return the outputs of an input by kind."""
    suffix = written.output_format.suffix
    return named_outputs(
        folder / stem,
        {
            "table": (True, "_measures.csv"),
            "page": (True, "_measures.html"),
            "points": (has_picks, "_points.csv"),
            "ripley": (has_picks, "_ripley.csv"),
            "labels": (written.labels, f"_labels{suffix}"),
            "lumen": (written.fill_lumen, f"_lumen{suffix}"),
            "midline": (written.midline, f"_midline{suffix}"),
            "split": (written.split, "_components"),
            **{f"mesh_{kind}": (True, f"_surface.{kind}") for kind in written.mesh},
            "record": (True, "_measures.json"),
        },
    )


def measure_objects(
    objects: Objects,
    voxel_size: float,
    *,
    tilt_range: tuple[float, float] = MeasureConfig().tilt_range,
    density: Tomogram | None = None,
    on_event: OnEvent = ignore,
    name: str = "",
) -> Measured:
    """Measure the components of a mask, and leaflet distances in a tomogram on its grid.

    The voxel size is in angstrom, and `tilt_range` holds the smallest and the largest tilt in degrees. Events
    name the input by `name`.
    """
    shape = objects.labels.shape

    def one(number: int) -> tuple[Surface | None, DensityThickness | None, Measures]:
        box = objects.boxes[number - 1]
        mask = np.asarray(objects.labels[box] == number)
        corner = [part.start for part in box]
        surface = mid_surface(mask, voxel_size, corner=corner, shape=shape, component=number)
        leaflets = None
        if surface is not None and density is not None:
            leaflets = density_thickness(density.data, surface, voxel_size)
        figures = measure(objects, number, surface, voxel_size=voxel_size, tilt_range=tilt_range)
        return surface, leaflets, figures

    found = []
    total = len(objects)
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, result in enumerate(pool.map(one, range(1, total + 1)), start=1):
            found.append(result)
            on_event(StageProgress(name=name, stage="measuring", done=number, total=total, unit="components"))
    return Measured(
        objects=objects,
        surfaces=[surface for surface, _, _ in found],
        densities=[leaflets for _, leaflets, _ in found],
        measures=[figures for _, _, figures in found],
    )


def _measure_file(
    path: Path,
    outputs: Mapping[str, Path],
    config: MeasureConfig,
    written: MeasureOutputs,
    tomogram: Path | None,
    on_event: OnEvent,
) -> Done:
    begun = time.monotonic()
    volume = _read(path, config, on_event)
    source, voxel_size, threshold = volume.source, volume.voxel_size, volume.threshold
    picks = None if config.picks is None else picks_of(config.picks, path, volume)
    objects = find_objects(volume.marked, **_limits(config.min_volume, voxel_size))
    if config.drop_components or config.keep_components:
        with naming(path):
            objects = objects.chosen(drop=config.drop_components, keep=config.keep_components)
    del volume
    density = None
    if tomogram is not None:
        density = read_tomogram(tomogram, mode0=config.mode0)
        if density.data.shape != source.data.shape:
            raise InputError(
                f"{tomogram}: has the shape {density.data.shape} (z, y, x), and {path.name} has "
                f"{source.data.shape}. Give the tomogram of this mask."
            )
    if not len(objects):
        on_event(Warn(text=f"{path.name}: has no component to measure; the table is empty."))
    measured = measure_objects(
        objects,
        voxel_size,
        tilt_range=config.tilt_range,
        density=density,
        on_event=on_event,
        name=path.name,
    )
    _write_volumes(outputs, measured, source, written.output_format)
    _write_meshes(outputs, measured, source, written)
    rows = record_rows(measured.measures, measured.densities)
    points = None
    if picks is not None:
        surfaces = [one for one in measured.surfaces if one is not None]
        points = measure_points(surfaces, picks, voxel_size=voxel_size, within=config.picks_within_angstrom)
        rows = points.added_to(rows)
        write_points(outputs["points"], points)
        write_ripley(outputs["ripley"], points.ripley)
    write_table(outputs["table"], rows)
    write_page(outputs["page"], path.name, rows, measured, density, points)
    sheets = sum(one.is_sheet for one in measured.measures)
    record = {
        "input": {"shape_zyx": source.data.shape, "voxel_size_angstrom": voxel_size},
        "logit_threshold": threshold,
        "units": "nm, nm^2, nm^3, 1/nm, 1/nm^2; bending energy in units of the bending modulus",
        "components": rows,
        "points": None if points is None else points.summary(),
        "seconds": round(time.monotonic() - begun, 2),
        "peak_memory_bytes": peak_bytes(),
    }
    columns = {
        "components": str(len(objects)),
        "closed": str(sum(one.is_closed for one in measured.measures)),
        "no sheet": str(len(objects) - sheets),
        "area": f"{np.nansum([one.area for one in measured.measures]):.0f} nm2",
    }
    if points is not None:
        columns["on membranes"] = f"{points.on_membranes} of {len(points.rows)} picks"
    return Done(record=record, columns=columns)


def _read(path: Path, config: MeasureConfig, on_event: OnEvent) -> MembraneVolume:
    return read_membranes(
        path,
        pixel_size=config.pixel_size,
        logit_threshold=config.logit_threshold,
        mode0=config.mode0,
        on_event=on_event,
    )


def _limits(least: Least, voxel_size: float) -> dict[str, float]:
    """Return the arguments of `find_objects` for a smallest size."""
    if least.unit == "slices":
        return {"min_slices": least.number}
    return {"min_voxels": least.number / (voxel_size / 10) ** 3 if least.unit == "nm3" else least.number}


def _match_tomograms(items: Sequence[InputItem], tomogram: Path | None) -> dict[Path, Path]:
    """Return the tomogram of each input."""
    if tomogram is None:
        return {}
    paths = [item.path for item in items if item.is_new]
    found = resolve_inputs([tomogram])
    if error := next((item.error for item in found if item.error), None):
        raise InputError(error)
    if len(found) == 1 and len(paths) == 1:
        return {paths[0]: found[0].path}
    pairs: dict[Path, Path] = {}
    for path in paths:
        # The names of masks go on after those of their tomograms, as `ts_01_membrane_mask.mrc` does.
        fitting = [
            item.path
            for item in found
            if re.match(rf"{re.escape(stem(item.path))}(?![a-zA-Z0-9])", path.name)
        ]
        if not fitting:
            raise InputError(
                f"{path}: no tomogram in {tomogram} has its name. Give a folder with one tomogram per mask."
            )
        pairs[path] = max(fitting, key=lambda one: len(one.name))
    return pairs


def _write_volumes(
    outputs: Mapping[str, Path], measured: Measured, source: Tomogram, output_format: OutputFormat
) -> None:
    objects, geometry, label = measured.objects, source.geometry, made_by("measure")
    if "labels" in outputs:
        write_labels(outputs["labels"], objects.labels, geometry, label=label, output_format=output_format)
    if "lumen" in outputs:
        closed = [one.component for one in measured.measures if one.is_closed]
        lumen = fill_lumens(objects, closed)
        write_mask(outputs["lumen"], lumen, geometry, label=label, output_format=output_format)
    if "midline" in outputs:
        surfaces = [one for one in measured.surfaces if one is not None]
        lines = mid_lines(surfaces, objects.labels.shape, float(geometry.voxel_size[2]))
        write_mask(outputs["midline"], lines, geometry, label=label, output_format=output_format)
    if "split" in outputs:
        folder = make_folder(outputs["split"])
        for number, box, mask in objects.masks():
            whole = np.zeros(objects.labels.shape, bool)
            whole[box] = mask
            name = f"component_{number:04d}{output_format.suffix}"
            write_mask(folder / name, whole, geometry, label=label, output_format=output_format)


def _write_meshes(
    outputs: Mapping[str, Path], measured: Measured, source: Tomogram, written: MeasureOutputs
) -> None:
    surfaces = [one for one in measured.surfaces if one is not None]
    targets = [(outputs[f"mesh_{kind}"], source.geometry) for kind in written.mesh]
    if "copick" in outputs:  # copick ignores the origin of a tomogram
        targets.append((outputs["copick"], replace(source.geometry, origin=(0.0, 0.0, 0.0))))
    if not targets:
        return
    if not surfaces:
        raise InputError(
            f"{source.source}: no component is a sheet, so that there is no mesh to write. Leave out --mesh "
            "and --copick."
        )
    values = {}
    if any(one is not None for one in measured.densities):
        values["density_thickness"] = np.concatenate(
            [
                leaflets.at(surface.mesh.vertices)
                for surface, leaflets in zip(measured.surfaces, measured.densities, strict=True)
                if surface is not None and leaflets is not None
            ]
        )
    for path, geometry in targets:
        write_mesh(path, surfaces, geometry, values=values, keep=written.mesh_fraction)
