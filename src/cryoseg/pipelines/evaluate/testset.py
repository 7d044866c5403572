"""Pairs of a published test set, and the table with the columns of ETSAM."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.io.inputs import resolve_inputs
from cryoseg.io.outputs import write_rows
from cryoseg.io.pairs import base_name
from cryoseg.io.web.archives import ListedRun
from cryoseg.pipelines.evaluate.pairs import ScoredPair, best_prediction
from cryoseg.pipelines.evaluate.segmentations import Evaluation

FINAL, STAGE1 = "final_stage2", "stage1"
_RATIOS = ("dice", "iou", "precision", "recall")


def find_tomograms(runs: Sequence[ListedRun], collection: Path) -> dict[str, Path]:
    """Return the tomograms by name of the run; runs without a single tomogram are left out."""
    found = {}
    for run in runs:
        try:
            found[run.name] = _only_volume(collection, run, "tomogram")
        except InputError:
            continue
    return found


def listed_pairs(
    runs: Sequence[ListedRun],
    collection: Path,
    preds: Path | dict[str, list[Path]],
    *,
    prefer_logits: bool = False,
) -> list[ScoredPair]:
    """Return one pair for each run, in the order of the list.

    Parameters
    ----------
    runs
        Rows of the list.
    collection
        Folder with `<dataset>/<run>/target_mask/` and `<dataset>/<run>/tomogram/`.
    preds
        Predictions by run, or their folder. It holds `<dataset>/<run>/`, or files named after
        `<dataset>_<run>`, the run or its tomogram, followed by words such as `_membrane_mask`.
    prefer_logits
        Whether logits are preferred to masks.

    Returns
    -------
    list of ScoredPair
        Pairs; a run that cannot be scored has an error.

    Raises
    ------
    InputError
        If the folder of predictions does not exist.
    """
    if isinstance(preds, Path) and not preds.is_dir():
        raise InputError(f"{preds}: no such folder of predictions. Check the name.")
    finder = None if isinstance(preds, dict) else _PredictionFinder(runs, collection, preds)
    pairs = []
    for run in runs:
        try:
            truth = _only_volume(collection, run, "target_mask")
        except InputError as error:
            pairs.append(ScoredPair(name=run.name, error=str(error)))
            continue
        found = preds.get(run.name, []) if isinstance(preds, dict) else finder.find(run) if finder else []
        best, alike = best_prediction(found, prefer_logits=prefer_logits)
        if best is None:
            where = "the outputs of the model" if isinstance(preds, dict) else str(preds)
            alike = f"no prediction in {where}."
        problem = f"{run.name}: {alike}" if alike else None
        pred = None if alike else best
        pairs.append(ScoredPair(name=run.name, pred=pred, truth=truth, error=problem))
    return pairs


def write_etsam_table(
    path: Path, evaluation: Evaluation, runs: Sequence[ListedRun], *, overwrite: bool = False
) -> None:
    """Write dataset_id, run_id and the four ratios of stage 1 and of the final mask.

    Cells without a score are empty. As in the tables of ETSAM, Dice and IoU of an empty truth are nan,
    and an undefined precision or recall is 0.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.

    Source: jianlin-cheng/ETSAM scripts/evaluate_etsam.py@b859060.
    """
    by_key = {(file.method, file.name): file for file in evaluation.files if not file.error}
    header = [f"{method}_{ratio}" for method in (STAGE1, FINAL) for ratio in _RATIOS]
    rows = [["dataset_id", "run_id", *header]]
    for run in runs:
        cells: list[str] = []
        for method in (STAGE1, FINAL):
            file = by_key.get((method, run.name))
            metrics = None if file is None else file.metrics
            cells += [_etsam_cell(ratio, metrics) for ratio in _RATIOS]
        rows.append([run.dataset_id, run.run_id, *cells])
    write_rows(path, rows, overwrite=overwrite)


def _etsam_cell(ratio: str, metrics: dict[str, float] | None) -> str:
    if metrics is None:
        return ""
    # The recall of cryoseg is NaN only if the truth is empty.
    is_empty = math.isnan(metrics["recall"])
    if ratio in ("dice", "iou"):
        return "nan" if is_empty else repr(metrics[ratio])
    return "0.0" if math.isnan(metrics[ratio]) else repr(metrics[ratio])


def _only_volume(collection: Path, run: ListedRun, kind: str) -> Path:
    folder = collection / run.dataset_id / run.run_id / kind
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Download it with `cryoseg data fetch`.")
    items = resolve_inputs([folder], leave_out=None)
    if len(items) != 1 or items[0].error is not None:
        raise InputError(items[0].error or f"{folder}: holds {len(items)} volumes. Keep the one to score.")
    return items[0].path


class _PredictionFinder:
    """Finder of predictions in one folder, whose files are listed once."""

    def __init__(self, runs: Sequence[ListedRun], collection: Path, folder: Path) -> None:
        self._folder = folder
        self._tomograms = {name: base_name(path) for name, path in find_tomograms(runs, collection).items()}
        # A name of two runs identifies neither.
        counts = Counter([*self._tomograms.values(), *(run.run_id for run in runs)])
        self._shared = {name for name, count in counts.items() if count > 1}
        self._files = [item.path for item in resolve_inputs([folder], leave_out=None) if item.error is None]

    def find(self, run: ListedRun) -> list[Path]:
        own = self._folder / run.dataset_id / run.run_id
        if own.is_dir():
            return [item.path for item in resolve_inputs([own], leave_out=None) if item.error is None]
        names = [f"{run.dataset_id}_{run.run_id}", run.run_id, self._tomograms.get(run.name, "")]
        for name in names:
            same = [path for path in self._files if base_name(path) == name]
            if name and same and name not in self._shared:
                return same
        return []
