"""Coordinate files as points of napari that can be edited and written back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError
from cryoseg.io.picks.box import CRYOPPP_HEADER
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.io.picks.picks import PICKS_TAG, format_of, read_picks, write_picks
from cryoseg.io.records import read_record
from cryoseg.napari.layers import KEY, about, kind_of, path_of
from cryoseg.types import Picks

NEW = -1  # Row of a point that the file does not contain.
DEFAULT_DIAMETER = 10.0  # Voxels, for files without a diameter.
MANUAL_SCORE = 1.0


def read_points(path: Path) -> list[tuple[Any, dict[str, Any], str]]:
    """Read a coordinate file as points layers, one per image.

    The points lie on the image in the current viewer that has the name of their image or, without such a
    name, on its only image. Otherwise their coordinates are voxels.

    Raises
    ------
    InputError
        If the file is missing or damaged, or needs the image.
    """
    (image,) = _images_of(path, [""])
    sets = read_picks(path, _frame(image))
    images = _images_of(path, list(sets))
    if image is None and (known := next((one for one in images if one is not None), None)) is not None:
        sets = read_picks(path, _frame(known))  # Shifts in angstrom need the voxel size.
    if len(sets) > 1 and any(one is not None for one in images):  # Images that are not open are left out.
        pairs = [(name, one) for name, one in zip(sets, images, strict=True) if one is not None]
    else:
        pairs = list(zip(sets, images, strict=True))
    layers = [points_layer(path, name, sets[name], one) for name, one in pairs]
    if len(layers) == 1:
        layers[0][1]["name"] = path.stem
    return layers


def points_layer(path: Path, name: str, picks: Picks, image: Any) -> tuple[Any, dict[str, Any], str]:
    """Return the points of one image of a file; `image` is the layer on which they lie, or None."""
    features: dict[str, NDArray[Any]] = {"row": np.arange(len(picks))}
    if picks.scores is not None:
        features["score"] = np.asarray(picks.scores, np.float64)
    if picks.tracks is not None:
        features["track"] = np.asarray(picks.tracks)
    attributes: dict[str, Any] = {
        "name": f"{path.stem} [{Path(name).name}]",
        "features": features,
        "size": picks.diameter_px or _recorded_diameter(path) or DEFAULT_DIAMETER,
        "face_color": "transparent",
        "border_color": "#ffd21a",
        "border_width": 0.08,
        "out_of_slice_display": picks.centers.shape[1] == 3,
        "metadata": {KEY: {"path": str(path.absolute()), "kind": "picks", "image": name, "picks": picks}},
    }
    if picks.scores is not None:
        attributes |= {"border_color": "score", "border_colormap": "viridis"}
        attributes["border_contrast_limits"] = (0.0, 1.0)
    if image is not None:
        axes = picks.centers.shape[1]
        attributes |= {
            "scale": image.scale[-axes:],
            "translate": image.translate[-axes:],
            "units": image.units[-axes:],
        }
    shifts = 0.0 if picks.shifts is None else picks.shifts
    return picks.centers + shifts, attributes, "points"


def save_points(layer: Any, path: Path | None = None) -> tuple[Path, int]:
    """Write the points of a layer to a coordinate file, in the format of the file that they come from.

    Parameters
    ----------
    layer
        Points layer; its features `score` and `track` are written where the format holds them. Points of the
        file keep everything else that belongs to them.
    path
        File to write; None replaces the file of the layer. Its suffix gives another format.

    Returns
    -------
    tuple of Path and int
        The file, and the number of points of the layer.

    Raises
    ------
    InputError
        If the layer comes from no file and there is no `path`.
    OutputError
        If the file cannot be written.
    """
    noted = about(layer)
    source = Path(noted["path"]) if "path" in noted else None
    target = path or source
    if target is None:
        raise InputError(f"{layer.name}: comes from no coordinate file. Save it under a name.")
    picks = edited_picks(layer, noted.get("picks"))
    (image,) = _images_of(source or target, [noted.get("image", "")])
    own = _own_format(source) if source is not None and source.suffix == target.suffix else None
    flavor = own or next((one for one in PickFormat if one.suffix == target.suffix.lower()), None)
    if flavor is None:
        raise InputError(
            f"{target}: cannot write this format. Give one of the suffixes of `cryoseg convert`."
        )
    known = None if image is None else path_of(image)
    name = noted.get("image") or (known.name if known else target.stem.removesuffix(PICKS_TAG))
    sets = {name: picks}
    if source is not None and source == target and flavor.traits.several and source.is_file():
        sets = {**read_picks(source, _frame(image)), noted["image"]: picks}
    write_picks(target, sets, _frame(image), flavor=flavor, overwrite=True)
    return target, len(picks)


def edited_picks(layer: Any, original: Picks | None) -> Picks:
    """Return the points of a layer as picks; those with a row of `original` keep what belongs to it.

    New points have the score 1, no shift, and the orientation of the reference. Class, half set and further
    columns are those of the first pick.
    """
    data = np.asarray(layer.data, np.float64)
    if original is None or len(original) == 0 or "row" not in layer.features:
        return Picks(centers=data, scores=_feature(layer, "score"), source=Path(layer.name))
    rows = np.asarray(layer.features["row"], np.int64)
    # A new point gets the row of the point that was selected before, but stands behind all old ones.
    is_new = rows <= np.maximum.accumulate(np.concatenate([[NEW], rows]))[:-1]
    picks = original.take(np.where(is_new, 0, rows))
    if picks.rotations is not None:
        picks = replace(picks, rotations=np.where(is_new[:, None, None], np.eye(3), picks.rotations))
    if picks.shifts is not None:
        shifts = np.where(is_new[:, None], 0.0, picks.shifts)
        picks, data = replace(picks, shifts=shifts), data - shifts
    if picks.tracks is not None:
        picks = replace(picks, tracks=np.asarray(layer.features["track"], np.int64))
    scores = _feature(layer, "score")
    if scores is not None:
        scores[is_new] = MANUAL_SCORE
    return replace(picks, centers=data, scores=scores)


def mark_new(event: Any) -> None:
    """Give added points the row and the score of new ones, and not those of the point selected before."""
    from napari.layers.base import ActionType

    layer = event.source
    if event.action != ActionType.ADDED or "row" not in layer.features:
        return
    features = layer.features.copy()
    added = [index % len(features) for index in event.data_indices]
    features.loc[added, "row"] = NEW
    if "score" in features:
        features.loc[added, "score"] = MANUAL_SCORE
    layer.features = features


def _feature(layer: Any, name: str) -> NDArray[np.float32] | None:
    if name not in layer.features:
        return None
    values = np.asarray(layer.features[name], np.float32)
    return np.where(np.isfinite(values), values, np.float32(MANUAL_SCORE))


def _recorded_diameter(path: Path) -> float:
    """Return the diameter in voxels in the record of `cryoseg pick` beside a file; 0.0 if there is none."""
    record = path.with_suffix(".json")
    if record == path or not record.is_file():
        return 0.0
    return float(read_record(record).get("particle_diameter_px") or 0.0)


def _own_format(path: Path) -> PickFormat:
    """Return the format in which a file is written back."""
    flavor = format_of(path)
    if flavor is PickFormat.CSV:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            if file.readline().strip().startswith(",".join(CRYOPPP_HEADER[:2])):
                return PickFormat.CRYOPPP
    return flavor


def _images_of(path: Path, names: list[str]) -> list[Any]:
    """Return the open image that each name in a coordinate file means; None if there is none.

    The only open image is that of a file with one name, whatever it is called.
    """
    images = _open_images()
    if not images:
        return [None] * len(names)
    open_names = [ImageName(one.name, path_of(one) or Path(one.name)) for one in images]
    found = match_names([ImageName(name, path) for name in names], open_names)
    if len(images) == len(names) == 1:
        return images
    return [None if index is None else images[index] for index in found]


def _frame(image: Any) -> PickFrame:
    """Return what the image of a coordinate file says about it."""
    if image is None:
        return PickFrame(keep_shifts=True)
    is_known = str(image.units[-1]) == "angstrom"
    return PickFrame(
        voxel_size=float(image.scale[-1]) if is_known else 0.0, shape=image.data.shape, keep_shifts=True
    )


def _open_images() -> list[Any]:
    """Return the tomograms and micrographs of the current viewer; those of other readers count too."""
    from napari import current_viewer
    from napari.layers import Image

    viewer = current_viewer()
    layers = [] if viewer is None else [one for one in viewer.layers if isinstance(one, Image)]
    return [one for one in layers if kind_of(one) != "logits"]
