"""Which prediction belongs to which truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.io.images.volumes import is_volume
from cryoseg.io.inputs import resolve_inputs, stem
from cryoseg.io.pairs import base_name


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """One file to score.

    Attributes
    ----------
    name
        Name of the tomogram, shared by prediction and truth.
    pred, truth
        The files, or None where one is missing.
    region
        A mask of where to score.
    error
        One sentence if the pair cannot be scored.
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

    Two files are a pair whatever their names. Of folders, globs and lists, files match by stem, or by
    the stem without words such as `_membrane_mask` or `_labels`. Of several predictions of one
    tomogram the post-processed mask is taken, then the mask, then the logits; with
    `prefer_logits` the logits first. A truth without prediction is an error of its row; predictions
    without truth are left out.

    Parameters
    ----------
    pred, truth
        A file, folder, quoted glob or `.txt` list; or for predictions the files themselves.
    region
        The same, of masks of where to score; None scores everywhere.
    prefer_logits
        See above.

    Returns
    -------
    list of ScoredPair
        Sorted by name.

    Raises
    ------
    InputError
        If one of the three names no file at all, or two truths share a name.
    """
    preds, truths = _files(pred), _files(truth)
    where = pred if isinstance(pred, str | Path) else "what the model wrote"
    regions = [] if region is None else _files(region)
    one_pred = not isinstance(pred, str | Path) or is_volume(Path(pred))
    if one_pred and len(truths) == 1 and is_volume(Path(truth)) and len({*map(base_name, preds)}) == 1:
        best = min(preds, key=lambda found: pred_rank(found, prefer_logits=prefer_logits))
        chosen = regions[0] if len(regions) == 1 else None
        return [ScoredPair(name=base_name(best), pred=best, truth=truths[0], region=chosen)]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in preds:
        by_name[base_name(path)].append(path)
    region_of = {base_name(path): path for path in regions}
    pairs: dict[str, ScoredPair] = {}
    for path in truths:
        name = base_name(path)
        if name in pairs:
            raise InputError(f"{path}: {pairs[name].truth} is the truth of {name} too. Keep one of them.")
        candidates = sorted(
            by_name.get(name, []), key=lambda found: (pred_rank(found, prefer_logits=prefer_logits), found)
        )
        error = None
        if not candidates:
            error = f"{path}: no prediction of this name in {where}."
        elif alike := two_alike(candidates, prefer_logits=prefer_logits):
            error = f"{path}: {alike}"
        elif region is not None and name not in region_of:
            error = f"{path}: no region mask of this name in {region}."
        pairs[name] = ScoredPair(
            name=name,
            pred=candidates[0] if candidates else None,
            truth=path,
            region=region_of.get(name),
            error=error,
        )
    return [pairs[name] for name in sorted(pairs)]


def two_alike(candidates: Sequence[Path], *, prefer_logits: bool) -> str | None:
    """Why the best of several predictions, sorted by `pred_rank`, cannot be told; None if it can."""
    ranks = [pred_rank(found, prefer_logits=prefer_logits) for found in candidates[:2]]
    if len(ranks) < 2 or ranks[0] != ranks[1]:
        return None
    return f"{candidates[0].name} and {candidates[1].name} both match. Keep one of them."


def pred_rank(path: Path, *, prefer_logits: bool) -> int:
    """Which of several predictions of one tomogram to score: the lowest."""
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
