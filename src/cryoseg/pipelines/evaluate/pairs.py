"""Match predictions with truths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.io.images.volumes import is_volume
from cryoseg.io.inputs import output_stems, resolve_inputs, stem
from cryoseg.io.pairs import base_name
from cryoseg.io.picks.names import ImageName, match_names


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
    error
        Error message in one sentence if the pair cannot be scored.
    """

    name: str
    pred: Path | None = None
    truth: Path | None = None
    region: Path | None = None
    error: str | None = None


def match_predictions(
    pred: str | Path | Sequence[Path],
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
        File, folder, quoted glob or `.txt` list; `pred` may be a list of files.
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
    preds, truths = _files(pred), _files(truth)
    where = pred if isinstance(pred, str | Path) else "the outputs of the model"
    regions = [] if region is None else _files(region)
    one_pred = not isinstance(pred, str | Path) or is_volume(Path(pred))
    if one_pred and len(truths) == 1 and is_volume(Path(truth)) and len({*map(base_name, preds)}) == 1:
        best = min(preds, key=lambda found: pred_rank(found, prefer_logits=prefer_logits))
        chosen = regions[0] if len(regions) == 1 else None
        return [ScoredPair(name=base_name(best), pred=best, truth=truths[0], region=chosen)]
    # Truths of the same name get the names of outputs of a batch, such as g1_TS_01 and g2_TS_01.
    names = {path: base_name(Path(f"{name}.mrc")) for path, name in output_stems(truths).items()}
    found, found_regions = _by_truth(preds, names), _by_truth(regions, names)
    pairs: dict[str, ScoredPair] = {}
    for path, name in names.items():
        if name in pairs:
            raise InputError(f"{path}: {pairs[name].truth} is the truth of {name} too. Keep one of them.")
        candidates = sorted(
            found[path], key=lambda found: (pred_rank(found, prefer_logits=prefer_logits), found)
        )
        error = None
        if not candidates:
            known = ", ".join(sorted({base_name(found) for found in preds})[:5]) or "none"
            error = f"{path}: no prediction is named {name} in {where}; the predictions are named {known}."
        elif alike := two_alike(candidates, prefer_logits=prefer_logits):
            error = f"{path}: {alike}"
        elif region is not None and not found_regions[path]:
            error = f"{path}: no region mask of this name in {region}."
        pairs[name] = ScoredPair(
            name=name,
            pred=candidates[0] if candidates else None,
            truth=path,
            region=found_regions[path][-1] if found_regions[path] else None,
            error=error,
        )
    return [pairs[name] for name in sorted(pairs)]


def _by_truth(files: Sequence[Path], names: Mapping[Path, str]) -> dict[Path, list[Path]]:
    """Return the files of every truth, matched by name, and by folders where truths have the same name.

    Parameters
    ----------
    files
        Predictions, or masks of regions.
    names
        Unique names of the truths.
    """
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


def two_alike(candidates: Sequence[Path], *, prefer_logits: bool) -> str | None:
    """Return an error message if the two best of several predictions, sorted by `pred_rank`, rank equally."""
    ranks = [pred_rank(found, prefer_logits=prefer_logits) for found in candidates[:2]]
    if len(ranks) < 2 or ranks[0] != ranks[1]:
        return None
    return f"{candidates[0].name} and {candidates[1].name} both match. Keep one of them."


def pred_rank(path: Path, *, prefer_logits: bool) -> int:
    """Return the rank of a prediction; of several for one tomogram, the lowest is scored."""
    name = stem(path).lower()
    if name.endswith("logits"):
        return -1 if prefer_logits else 2
    return 0 if name.endswith("post_processed_mask") else 1


def _files(typed: str | Path | Sequence[Path]) -> list[Path]:
    inputs: Sequence[str | Path] = [typed] if isinstance(typed, str | Path) else typed
    items = resolve_inputs(inputs, leave_out=None)
    good = [item.path for item in items if item.error is None]
    if not good:
        raise InputError(items[0].error if items and items[0].error else f"{typed}: names no file.")
    return good
