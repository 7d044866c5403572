"""Match predictions with truths, read them, and refuse what cannot be scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.grids.axes import (
    can_exchange_axes,
    find_exchanged_axes,
    shape_mismatch,
    voxel_size_mismatch,
)
from cryoseg.core.masks.binarize import to_mask
from cryoseg.core.metrics.masks import split_truth
from cryoseg.errors import InputError, naming
from cryoseg.events import OnEvent, Warn, warn_of
from cryoseg.io.images.pixel_size import contradiction
from cryoseg.io.images.volumes import improbable_voxel_size, read_mask, read_tomogram
from cryoseg.io.inputs import InputItem, is_input, listed_pixel_sizes, output_stems, resolve_inputs, stem
from cryoseg.io.pairs import base_name
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.pipelines.batches.memory import choose_memory_level
from cryoseg.types import BoolArray, Tomogram


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """Prediction and truth of one image.

    Attributes
    ----------
    name
        Name of the image.
    pred, truth
        Files; None if one is missing.
    region
        Mask of the voxels to score; None for all.
    pixel_size
        Pixel size in angstrom that a STAR file gives for the image; None if there is none.
    error
        Error message in one sentence if the pair cannot be scored.
    """

    name: str
    pred: Path | None = None
    truth: Path | None = None
    region: Path | None = None
    pixel_size: float | None = None
    error: str | None = None


def match_predictions(
    pred: str | Path | Sequence[InputItem],
    truth: str | Path,
    *,
    region: str | Path | None = None,
    prefer_logits: bool = False,
) -> list[ScoredPair]:
    """Match predictions and truths.

    Two files are a pair even if their names differ. In folders, globs and lists, files match by stem, or
    by the stem without words such as `_membrane_mask` or `_labels`. Of several predictions of one
    tomogram, the post-processed mask is preferred, then the mask, then the logits. A truth without
    prediction gives a pair with an error; predictions without truth are left out. Truths of the same
    name in several folders match the predictions that `cryoseg segment` names after them, or those in
    folders of the same names.

    Parameters
    ----------
    pred, truth
        File, folder, quoted glob or list of files (`.txt`, `.star`); `pred` may be the files themselves.
    region
        Masks of the voxels to score, in the same form; None scores all voxels.
    prefer_logits
        Whether logits are preferred to masks.

    Returns
    -------
    list of ScoredPair
        Pairs in the order of their names.

    Raises
    ------
    InputError
        If one of the three names no file, or two truths have the same name.
    """
    (predicted, _), (true, failed) = _files(pred), _files(truth)
    preds, truths = ([item.path for item in items] for items in (predicted, true))
    sizes = listed_pixel_sizes([*predicted, *true])
    where = pred if isinstance(pred, str | Path) else "the outputs of the model"
    regions = [] if region is None else [item.path for item in _files(region)[0]]
    one_pred = not isinstance(pred, str | Path) or is_input(Path(pred))
    if one_pred and len(truths) == 1 and is_input(Path(truth)) and len({*map(base_name, preds)}) == 1:
        best = best_prediction(preds, prefer_logits=prefer_logits)[0]
        assert best is not None
        chosen = regions[0] if len(regions) == 1 else None
        size, error = _listed_size(sizes, truths[0], best)
        pair = ScoredPair(name=base_name(best), pred=best, truth=truths[0], region=chosen)
        return [replace(pair, pixel_size=size, error=error)]
    # Truths of the same name get the names of outputs of a batch, such as g1_TS_01 and g2_TS_01.
    names = {path: base_name(Path(f"{name}.mrc")) for path, name in output_stems(truths).items()}
    found, found_regions = _by_truth(preds, names), _by_truth(regions, names)
    pairs: dict[str, ScoredPair] = {}
    for path, name in names.items():
        if name in pairs:
            raise InputError(f"{path}: {pairs[name].truth} is the truth of {name} too. Keep one of them.")
        best, alike = best_prediction(found[path], prefer_logits=prefer_logits)
        size, error = _listed_size(sizes, path, *([] if best is None else [best]))
        if best is None:
            known = ", ".join(sorted({base_name(found) for found in preds})[:5]) or "none"
            error = f"{path}: no prediction is named {name} in {where}; the predictions are named {known}."
        elif alike:
            error = f"{path}: {alike}"
        elif region is not None and not found_regions[path]:
            error = f"{path}: no region mask of this name in {region}."
        pairs[name] = ScoredPair(
            name=name,
            pred=best,
            truth=path,
            region=found_regions[path][-1] if found_regions[path] else None,
            pixel_size=size,
            error=error,
        )
    for item in failed:
        name = base_name(item.path)
        pairs.setdefault(name, ScoredPair(name=name, truth=item.path, error=item.error))
    return [pairs[name] for name in sorted(pairs)]


def _listed_size(sizes: Mapping[Path, float], *paths: Path) -> tuple[float | None, str | None]:
    """Return the pixel size that lists give for the files of a pair, and an error if they differ."""
    given = sorted({sizes[path] for path in paths if path in sizes})
    if len(given) > 1:
        return (
            None,
            f"{paths[0]}: the lists give the pixel sizes {given[0]:g} A and {given[1]:g} A. Correct one.",
        )
    return (given[0] if given else None), None


def _by_truth(files: Sequence[Path], names: Mapping[Path, str]) -> dict[Path, list[Path]]:
    """Return the files of every truth, matched by name, and by folders where truths have the same name."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_name[base_name(path)].append(path)
    found = {path: by_name.get(name, []) for path, name in names.items()}
    shared: dict[str, list[Path]] = defaultdict(list)
    for path, name in names.items():
        if base_name(path) != name and not found[path]:
            shared[base_name(path)].append(path)
    for base, truths in shared.items():
        candidates, targets = (
            [ImageName(str(path.absolute().with_name(base)), path) for path in paths]
            for paths in (by_name[base], truths)
        )
        for path, index in zip(by_name[base], match_names(candidates, targets), strict=True):
            if index is not None:
                found[truths[index]] = [*found[truths[index]], path]
    return found


def best_prediction(files: Sequence[Path], *, prefer_logits: bool) -> tuple[Path | None, str | None]:
    """Return the prediction of a tomogram to score, and an error message if two are equally good.

    The post-processed mask is preferred, then the mask, then the logits, or the logits first.
    """

    def rank(path: Path) -> int:
        name = stem(path).lower()
        if name.endswith("logits"):
            return -1 if prefer_logits else 2
        return 0 if name.endswith("post_processed_mask") else 1

    ranked = sorted(files, key=lambda path: (rank(path), path))
    if len(ranked) > 1 and rank(ranked[0]) == rank(ranked[1]):
        return ranked[0], f"{ranked[0].name} and {ranked[1].name} both match. Keep one of them."
    return (ranked[0] if ranked else None), None


def _files(typed: str | Path | Sequence[InputItem]) -> tuple[list[InputItem], list[InputItem]]:
    """Return the files that are found, and the inputs that are not."""
    items = resolve_inputs([typed], leave_out=None) if isinstance(typed, str | Path) else typed
    good = [item for item in items if item.error is None]
    failed = [item for item in items if item.error is not None]
    if not good:
        raise InputError(failed[0].error if failed and failed[0].error else f"{typed}: names no file.")
    return good, failed


def bytes_needed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the bytes that scoring a pair of shape (z, y, x) needs, without memory-mapped files."""
    # Measured; see docs/results/evaluate-speed.md.
    return (300 * 2**20 + 4 * int(np.prod(shape, dtype=np.int64)),)


def read_pair(
    pair: ScoredPair, config: EvaluateConfig, pixel_size: float | None, on_event: OnEvent
) -> tuple[Tomogram, Tomogram, Tomogram | None, tuple[float, float, float] | None]:
    """Read a pair and check that it can be scored.

    Parameters
    ----------
    pair
        Pair from `match_predictions`.
    config
        Settings, with the labels of membrane.
    pixel_size
        Pixel size in angstrom; overrides that of the pair, which overrides the headers.
    on_event
        Callback for warnings.

    Returns
    -------
    tuple
        Prediction, truth, region or None, and voxel size (z, y, x) in angstrom or None.

    Raises
    ------
    InputError
        If a file cannot be read, shapes or voxel sizes differ, or a label of the truth is unknown.
    """
    if pair.error is not None or pair.pred is None or pair.truth is None:
        raise InputError(pair.error or f"{pair.name}: a file is missing.")
    pixel_size = pixel_size or pair.pixel_size
    pred, truth = read_tomogram(pair.pred, mode0=config.mode0), read_mask(pair.truth, mode0=config.mode0)
    for volume in (pred, truth):
        warn_of(volume.source.name, volume.warnings, on_event)
    choose_memory_level(pair.pred, bytes_needed(pred.data.shape))
    _check_labels(truth, config)
    voxel_size = _check_pair(pred, truth, pixel_size)
    if pixel_size is not None and (doubt := contradiction(truth.geometry, pixel_size)):
        on_event(Warn(text=f"{truth.source.name}: {doubt}"))
    doubt = improbable_voxel_size(truth.geometry)
    if voxel_size is None and doubt and Metric.SURFACE in config.metrics:
        on_event(Warn(text=f"{truth.source.name}: {doubt} Distances are in voxels."))
    region = None
    if pair.region is not None:
        region = read_mask(pair.region, mode0=config.mode0)
        if problem := shape_mismatch(region.data.shape, truth.data.shape):
            raise InputError(f"{pair.region}: {problem.replace('prediction', 'region')}")
    _refuse_turned(pred, truth, config)
    if not config.allow_empty:
        _refuse_empty(pred, truth, config)
    return pred, truth, region, voxel_size


def _check_pair(
    pred: Tomogram, truth: Tomogram, pixel_size: float | None
) -> tuple[float, float, float] | None:
    """Check shapes and voxel sizes; return the voxel size in angstrom, or None if it is unknown."""
    if problem := shape_mismatch(pred.data.shape, truth.data.shape):
        raise InputError(f"{pred.source}: {problem}")
    if pixel_size is not None:
        return (pixel_size, pixel_size, pixel_size)
    sizes = [volume.geometry for volume in (truth, pred) if improbable_voxel_size(volume.geometry) is None]
    problem = voxel_size_mismatch(pred.geometry.voxel_size, truth.geometry.voxel_size)
    if problem and len(sizes) == 2:
        raise InputError(f"{pred.source}: {problem}")
    return sizes[0].voxel_size if sizes else None


def _refuse_empty(pred: Tomogram, truth: Tomogram, config: EvaluateConfig) -> None:
    """Refuse a truth without membrane if the prediction marks some: its labels may have been misread."""
    if any(split_truth(image, config)[0].any() for image in truth.data):
        return
    marked = int(_marked(pred, config).sum())
    if marked:
        raise InputError(
            f"{truth.source}: no voxel is membrane, and {pred.source.name} marks {marked}. Check the labels, "
            "--truth-label, and how their bytes are read (--mode0), or pass --allow-empty."
        )


def _marked(pred: Tomogram, config: EvaluateConfig) -> BoolArray:
    with naming(pred.source):
        return to_mask(pred.data, logit_threshold=config.logit_threshold)


def _refuse_turned(pred: Tomogram, truth: Tomogram, config: EvaluateConfig) -> None:
    if not can_exchange_axes(pred.data.shape):
        return
    membrane, _ = split_truth(truth.data, config)
    if order := find_exchanged_axes(_marked(pred, config), membrane):
        raise InputError(
            f"{pred.source}: the axes are exchanged: it fits {truth.source.name} only with its axes taken in "
            f"the order {order}. Write it in the order z, y, x of the truth."
        )


def _check_labels(truth: Tomogram, config: EvaluateConfig) -> None:
    """Refuse a truth with several positive labels, unless one was chosen."""
    if config.truth_label is not None:
        return
    label: int | None = None
    for z, image in enumerate(truth.data):
        label = int(image.max()) if label is None and image.max() > 0 else label
        expected = (image == 0) | (image == config.ignore_label)
        if label is not None:
            expected |= image == label
        if not expected.all():
            found = np.unique(image[~expected])
            raise InputError(
                f"{truth.source}: slice {z} holds {', '.join(map(str, found[:4]))} beside 0, {label or 1} "
                f"and the ignore label {config.ignore_label}. Say with --truth-label which value is membrane."
            )
