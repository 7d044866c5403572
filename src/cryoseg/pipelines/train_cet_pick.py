"""Train CET-pick on tomograms and coordinate files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg import __version__
from cryoseg.config import Mode0
from cryoseg.config.cet_pick import CetPickConfig, CetPickFiles
from cryoseg.config.invocation import recorded_options
from cryoseg.config.pick import TomogramPickConfig
from cryoseg.core.grids.resample import rescale_points
from cryoseg.core.grids.working_grid import points_thin_first, thin_first, triple_thin_first
from cryoseg.core.metrics.matching import assign, find_neighbors
from cryoseg.errors import InputError, OutputError
from cryoseg.events import Note, OnEvent, Warn, ignore, warn_of
from cryoseg.io.images.pixel_size import with_pixel_size
from cryoseg.io.images.volumes import check_finite, read_mask, read_tomogram, require_voxel_size
from cryoseg.io.inputs import InputItem, output_stems, resolve_inputs
from cryoseg.io.pairs import mask_file
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import ImageName, distinct_names, image_stem, match_names
from cryoseg.io.picks.picks import read_picks
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.picks.text import is_cetpick_list, read_cetpick_list
from cryoseg.io.records import write_record
from cryoseg.methods.cet_pick.detector import Detector, save_detector
from cryoseg.methods.cet_pick.samples import LabeledTomogram
from cryoseg.methods.cet_pick.train import LABEL_RADIUS, train_detector
from cryoseg.methods.training.loop import BEST, CHECKPOINT
from cryoseg.methods.training.run import Runtime
from cryoseg.pipelines.pick.tomogram import pick_tomogram
from cryoseg.types import Tomogram
from cryoseg.view.previews import ShownPicks, draw_picks
from cryoseg.view.sections import write_png


@dataclass(frozen=True, kw_only=True)
class TrainingFiles(CetPickFiles):
    """Files for a training.

    Attributes
    ----------
    relion
        Frames by name of the tomogram, for the STAR files of RELION.
    """

    relion: dict[str, RelionFrame] | None = None


def _tomogram_inputs(inputs: Sequence[str | Path]) -> dict[str, InputItem]:
    """Return files by image_name of CET-pick, by name in RELION, or by a unique part of their paths."""
    found: dict[str, InputItem] = {}
    others: list[str | Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_file() and is_cetpick_list(path):
            found.update({name: InputItem(path=one) for name, one in read_cetpick_list(path).items()})
        else:
            others.append(text)
    items = resolve_inputs(others)
    for item in items:
        if item.error:
            raise InputError(item.error)
    new = [item for item in items if item.is_new]
    for name, item in zip(distinct_names([item.path for item in new], bare=True), new, strict=True):
        name = (item.listed.tomogram if item.listed else "") or name
        if name in found and found[name].path.resolve() != item.path.resolve():
            raise InputError(
                f"{item.path}: has the name of {found[name].path} in the list. Change it in the list."
            )
        found[name] = item
    if not found:
        raise InputError("--tomograms: no tomogram found. Give files, folders or a list.")
    return found


def _read(path: Path, pixel_size: float | None, mode0: Mode0, on_event: OnEvent) -> Tomogram:
    tomogram = read_tomogram(path, mode0=mode0)
    if pixel_size is not None:
        tomogram = with_pixel_size(tomogram, pixel_size)
    warn_of(path.name, tomogram.warnings, on_event)
    check_finite(tomogram)
    if pixel_size is None:
        require_voxel_size(tomogram)
    return tomogram


def _assign(
    files: Sequence[Path], tomograms: dict[str, Tomogram], given: TrainingFiles, on_event: OnEvent
) -> dict[str, NDArray[np.float64]]:
    """Read the points (n, 3) of all tomograms, z, y, x in voxels of the file, by name of the tomogram."""
    points: dict[str, list[NDArray[np.float64]]] = {name: [] for name in tomograms}
    names = list(tomograms)
    images = [ImageName(str(tomogram.source), tomogram.source) for tomogram in tomograms.values()]
    # A list may give tomograms other names than their files, and labels may use either.
    aliases = [index for index, name in enumerate(names) if image_stem(name) != images[index].stem]
    candidates = [*images, *(ImageName(names[index], images[index].file) for index in aliases)]
    meant = [*range(len(images)), *aliases]
    warnings: dict[str, None] = {}
    for path in files:
        keys: list[ImageName] = []
        matched = 0
        for index, (name, tomogram) in enumerate(tomograms.items()):
            size = tomogram.geometry.voxel_size[2]
            frame = PickFrame(
                voxel_size=size,
                shape=tomogram.data.shape,
                thickness_axis=given.thickness_axis,
                coords_order=given.coords_order,
                relion=given.relion,
                unbinned=given.unbinned,
            )
            sets = read_picks(path, frame)
            keys = [ImageName(key, path) for key in sets]
            for key, own, picks in zip(keys, match_names(keys, candidates), sets.values(), strict=True):
                is_own = own is not None and meant[own] == index
                if not is_own and (key.name or len(tomograms) > 1):
                    continue
                centers = picks.centers
                if centers.shape[1] != 3:
                    raise InputError(f"{path}: holds points in two dimensions; tomograms need x, y, z.")
                if given.picks_pixel_size is not None:
                    centers = rescale_points(centers, given.picks_pixel_size / size)
                points[name].append(centers)
                warnings |= dict.fromkeys(picks.warnings)
                matched += 1
        if not matched:
            own_names, shown = ", ".join(names[:3]), ", ".join(key.text for key in keys[:3])
            on_event(Warn(text=f"{path}: names {shown}, and the tomograms are {own_names}; it is left out."))
    for warning in warnings:
        on_event(Warn(text=warning))
    return {name: np.concatenate(parts) if parts else np.empty((0, 3)) for name, parts in points.items()}


def load_items(given: TrainingFiles, *, on_event: OnEvent = ignore) -> list[LabeledTomogram]:
    """Read tomograms with their labels, with the thin axis first.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    tomograms = {
        name: _read(
            item.path,
            given.pixel_size or (item.listed.pixel_size if item.listed else None),
            given.mode0,
            on_event,
        )
        for name, item in _tomogram_inputs(given.tomograms).items()
    }
    labels = _assign(given.picks, tomograms, given, on_event)
    negatives = _assign(given.negatives, tomograms, given, on_event)
    axis = given.thickness_axis
    stems = output_stems([tomogram.source for tomogram in tomograms.values()])
    items = []
    for name, tomogram in tomograms.items():
        region = None
        if given.mask is not None:
            mask = mask_file(given.mask, stems[tomogram.source])
            region = thin_first(np.asarray(read_mask(mask, mode0=given.mode0).data > 0), axis)
            if region.shape != thin_first(tomogram.data, axis).shape:
                raise InputError(
                    f"{mask}: its shape differs from that of {tomogram.source.name}. Give its mask."
                )
        geometry = replace(
            tomogram.geometry, voxel_size=triple_thin_first(tomogram.geometry.voxel_size, axis)
        )
        items.append(
            LabeledTomogram(
                tomogram=replace(tomogram, data=thin_first(tomogram.data, axis), geometry=geometry),
                labels=points_thin_first(labels[name], axis),
                negatives=points_thin_first(negatives[name], axis),
                mask=region,
            )
        )
    return items


def _load_validation(given: TrainingFiles, training: list[LabeledTomogram]) -> list[LabeledTomogram]:
    """Read the validation tomograms; coordinates without a name belong to the training tomogram."""
    if not given.validation:
        return []
    both = replace(given, tomograms=(*given.tomograms, *given.validation), mask=None)
    known = {item.tomogram.source for item in training}
    return [item for item in load_items(both) if item.tomogram.source not in known]


@dataclass(frozen=True, kw_only=True)
class DetectorOutput:
    """Outputs of a training.

    Attributes
    ----------
    folder
        Folder of the run and the model, which is made if it is missing.
    name
        Name of the model without suffix.
    pictures
        Whether slices of the training tomograms are drawn with labels, heat map and picks.
    overwrite
        Whether a finished model is replaced.
    """

    folder: Path
    name: str = "cet_pick"
    pictures: bool = True
    overwrite: bool = False


def train_files(
    given: TrainingFiles, config: CetPickConfig, output: DetectorOutput, *, runtime: Runtime = Runtime()
) -> Path | None:
    """Train and write `<name>.safetensors`, the log, and a picture of each training tomogram.

    The same call continues an interrupted training from its checkpoint. The file of the model is returned,
    and None if the time limit was reached.

    Raises
    ------
    CryosegError
        If the inputs cannot be used, or the model exists.
    """
    folder, on_event = output.folder, runtime.on_event
    model = folder / f"{output.name}.safetensors"
    if model.exists() and not output.overwrite:
        raise OutputError(f"{model}: exists already. Pass --overwrite to replace it.")
    items = load_items(given, on_event=on_event)
    validation = _load_validation(given, items)
    stems = output_stems([item.tomogram.source for item in (*items, *validation)])

    def watch(step: int, detector: Detector) -> None:
        for item in validation:
            path = folder / f"{stems[item.tomogram.source]}_step_{step:06d}.png"
            share = _draw(item, detector, path, on_event)
            found = "" if share is None else f" finds {share:.0%} of its {len(item.labels)} labels,"
            on_event(Note(text=f"Validation on {item.name}, step {step}:{found} picture {path.name}."))

    trained = train_detector(items, config, folder, runtime=runtime, on_check=watch if validation else None)
    if trained is None:
        return None
    model_card = {
        **trained.card(config),
        "cryoseg": __version__,
        "tomograms": distinct_names([item.tomogram.source for item in items]),
    }
    # The thin axis was moved first for the training; the model is for files with their own axis order.
    settings = replace(trained.detector.settings, thickness_axis=given.thickness_axis)
    digest = save_detector(model, trained.detector.network.state_dict(), settings, model_card)
    if output.pictures:
        for item in items:
            _draw(item, trained.detector, folder / f"{stems[item.tomogram.source]}_picks.png", on_event)
    record = {
        "command": "train cet-pick",
        "model": {"name": model.name, "sha256": digest},
        **recorded_options("train cet-pick", {}),
        **model_card,
    }
    write_record(model.with_suffix(".json"), record, overwrite=True)
    # The checkpoints are not needed any more, and a training with --overwrite starts from the beginning.
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)
    on_event(Note(text=f"Model: {model}, threshold {trained.detector.settings.score_threshold:.3f}."))
    return model


def _draw(item: LabeledTomogram, detector: Detector, path: Path, on_event: OnEvent) -> float | None:
    """Write a picture with labels, heat map and picks; return the fraction of labels that were found."""
    tomogram = item.tomogram
    result = pick_tomogram(tomogram, detector, TomogramPickConfig(), on_event=on_event)
    size = np.asarray(tomogram.geometry.voxel_size)
    diameter = detector.settings.particle_diameter_angstrom
    wide = diameter / size
    picture = draw_picks(
        tomogram.data,
        ShownPicks(
            centers=result.picks.centers,
            diameter_voxels=(float(wide[0]), float(wide[1]), float(wide[2])),
            labels=item.labels,
        ),
        heat=result.heat_map,
    )
    write_png(path, picture, overwrite=True)
    if not len(item.labels):
        return None
    near = find_neighbors(result.picks.centers * size, item.labels * size, radius_px=LABEL_RADIUS * diameter)
    return float((assign(near) >= 0).sum() / len(item.labels))
