"""Score coordinate files against true coordinates, image by image."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

from cryoseg.config.evaluate import EvaluatePicksConfig, PickMatching
from cryoseg.core.grids.axes import find_changed_axes, points_outside, voxel_size_mismatch
from cryoseg.core.metrics.overlap import Counts
from cryoseg.core.metrics.picks import MatchCriteria, PickScore, evaluate_picks, join_curves
from cryoseg.errors import CryosegError, InputError, naming
from cryoseg.events import OnEvent, StageProgress, Warn, ignore
from cryoseg.io.inputs import InputItem, resolve_inputs
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import ImageName, distinct_names, match_names
from cryoseg.io.picks.picks import LISTED_SUFFIXES, read_picks
from cryoseg.io.picks.text import is_coordinate_table
from cryoseg.pipelines.evaluate.scores import FileScore
from cryoseg.pipelines.evaluate.segmentations import Evaluation, summarize
from cryoseg.types import Picks


def evaluate_pick_files(
    methods: Mapping[str, str | Path | Sequence[Path]],
    truth: str | Path,
    config: EvaluatePicksConfig,
    *,
    failed: Mapping[str, Mapping[str, str]] | None = None,
    on_event: OnEvent = ignore,
) -> Evaluation:
    """Score the picks of every method, image by image.

    Images match by the name in the file without suffix, or by the stem of the file if it names no image;
    folders decide if the names are ambiguous. A single image on each side is a pair even if the names differ.
    An image of the truth that a method does not name has no picks, unless its file cannot be read; picks of
    images without truth are left out.

    `methods` gives picks by name of the method, as a file of any known format, folder, quoted glob or list,
    or as the files; `truth` has the same forms. `failed` gives, by method and image, the reasons why images
    have no picks; such images are not scored. The result has one `FileScore` per method and image, with an
    error if it was not scored.

    Raises
    ------
    InputError
        If the truth cannot be read.
    """
    wanted, problems = _read_all(truth, config)
    if problems:
        raise InputError(problems[0])
    for _, picks in wanted.values():
        _warn(picks, config.shape, on_event)
    files = []
    for done, (method, given) in enumerate(methods.items()):
        on_event(StageProgress(name="Scoring", stage="picks", done=done, total=len(methods), unit="methods"))
        files += _score_method(method, given, wanted, config, (failed or {}).get(method, {}), on_event)
    on_event(
        StageProgress(name="Scoring", stage="picks", done=len(methods), total=len(methods), unit="methods")
    )
    return summarize(files, config, micro_metrics=lambda scores: _micro(scores, config))


def pick_metrics(score: PickScore, config: EvaluatePicksConfig) -> dict[str, float]:
    """Return the metrics of a score by column name, in the order of the tables; NaN if undefined."""
    dimensions = score.errors_px.shape[1]
    metrics = _counted(score.counts, config) | {
        "duplicates": score.duplicates,
        "error_mean_px": score.mean_error_px,
        "error_rms_px": score.rms_error_px,
    }
    axes = "zyx"[-dimensions:]
    metrics |= {f"bias_{axis}_px": value for axis, value in zip(axes, score.bias_px, strict=True)}
    if score.curve is not None:
        threshold, f1 = score.curve.best_f1
        metrics |= {
            "average_precision": score.curve.average_precision,
            "best_f1": f1,
            "best_threshold": threshold,
        }
    return metrics


def _counted(counts: Counts, config: EvaluatePicksConfig) -> dict[str, float]:
    return {
        "picks": counts.true_positives + counts.false_positives,
        "truths": counts.true_positives + counts.false_negatives,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f_score(),
        f"f{config.beta:g}": counts.f_score(config.beta),
    }


def _micro(scores: list[PickScore], config: EvaluatePicksConfig) -> dict[str, float]:
    """Return the metrics of all images together, at one score threshold."""
    metrics = _counted(reduce(operator.add, (score.counts for score in scores)), config)
    curves = [score.curve for score in scores if score.curve is not None]
    if len(curves) == len(scores):
        curve = join_curves(curves)
        threshold, f1 = curve.best_f1
        metrics |= {"average_precision": curve.average_precision, "best_f1": f1, "best_threshold": threshold}
    return metrics


def _score_method(
    method: str,
    given: str | Path | Sequence[Path],
    wanted: dict[str, tuple[ImageName, Picks]],
    config: EvaluatePicksConfig,
    failed: Mapping[str, str],
    on_event: OnEvent,
) -> list[FileScore]:
    read, problems = _read_all(given, config)
    files = [
        FileScore(
            method=method, name=Path(problem.split(": ", 1)[0]).name, pred=None, truth=None, error=problem
        )
        for problem in problems
    ]
    files += [
        FileScore(method=method, name=name, pred=None, truth=None, error=error)
        for name, error in failed.items()
    ]
    if not read and problems:
        return files
    names, truths = [own for own, _ in read.values()], [own for own, _ in wanted.values()]
    where = str(given) if isinstance(given, str | Path) else "the outputs of the model"
    meant: list[int | None] = [0]
    if len(read) == len(wanted) == 1 and not failed:
        if names[0].core != truths[0].core and names[0].name and truths[0].name:
            on_event(
                Warn(text=f"{where}: picks of {names[0].name} are scored with those of {truths[0].name}.")
            )
    else:
        try:
            meant = match_names(names, truths)
        except InputError as error:
            return [*files, FileScore(method=method, name=where, pred=None, truth=None, error=str(error))]
    if extra := sorted(name for name, index in zip(read, meant, strict=True) if index is None):
        on_event(
            Warn(
                text=f"{method}: picks of {', '.join(extra[:3])} are left out, since no truth has that name."
            )
        )
    if all(index is None for index in meant):
        example = f"{next(iter(read), 'none')!r} and {next(iter(wanted), 'none')!r}"
        nothing = f"{where}: no image has the name of one of the truth ({example}). Rename the images."
        return [*files, FileScore(method=method, name=where, pred=None, truth=None, error=nothing)]
    found: dict[str, Picks] = {}
    for index, (own, picks) in zip(meant, read.values(), strict=True):
        name = "" if index is None else [*wanted][index]
        if name in found:
            twice = f"{own.file}: {found[name].source.name} holds picks of {name} too. Keep one of them."
            files.append(FileScore(method=method, name=name, pred=own.file, truth=None, error=twice))
        elif index is not None:
            found[name] = picks
    unreadable = {ImageName("", Path(file.name)).core for file in files}
    unreadable |= set(failed)
    for name, (_, truth) in wanted.items():
        if name in unreadable and name not in found:
            continue
        if name in found:
            _warn(found[name], config.shape or truth.shape, on_event)
        files.append(_score_image(method, name, found.get(name), truth, config))
    return files


def _warn(picks: Picks, shape: tuple[int, ...] | None, on_event: OnEvent) -> None:
    """Report the warnings of the reader, and how many picks lie outside their image."""
    for warning in picks.warnings:
        on_event(Warn(text=warning))
    shape = shape or picks.shape
    if shape and len(shape) == picks.centers.shape[1] and (found := points_outside(picks.centers, shape)):
        on_event(Warn(text=f"{picks.source}: {found}."))


def _score_image(
    method: str, name: str, pred: Picks | None, truth: Picks, config: EvaluatePicksConfig
) -> FileScore:
    begun = time.monotonic()
    source = None if pred is None else pred.source
    try:
        sizes = [config.pixel_size, *(p.pixel_size for p in (truth, pred) if p is not None)]
        pixel_size = next((size for size in sizes if size), None)
        radius, margin = (
            0.0
            if length is None
            else length.in_pixels(
                pixel_size=pixel_size, diameter_angstrom=config.diameter_angstrom, option=option
            )
            for length, option in ((config.radius, "--radius"), (config.margin, "--margin"))
        )
        if pred is not None:
            _check_pair(pred, truth, config, radius)
        with naming(source or name):
            score = evaluate_picks(
                truth.centers[:0] if pred is None else pred.centers,
                truth.centers,
                MatchCriteria(
                    radius_px=radius,
                    margin_px=margin,
                    shape=config.shape or truth.shape or (None if pred is None else pred.shape),
                    is_cetpick=config.matching is PickMatching.CETPICK,
                ),
                scores=None if pred is None else pred.scores,
                threshold=config.threshold if pred is not None and pred.scores is not None else None,
            )
    except CryosegError as error:
        return FileScore(method=method, name=name, pred=source, truth=truth.source, error=str(error))
    return FileScore(
        method=method,
        name=name,
        pred=source,
        truth=truth.source,
        metrics=pick_metrics(score, config),
        score=score,
        counts=score.counts,
        voxel_size=None if pixel_size is None else (pixel_size,) * 3,
        seconds=time.monotonic() - begun,
    )


def _check_pair(pred: Picks, truth: Picks, config: EvaluatePicksConfig, radius_px: float) -> None:
    """Refuse picks whose grid differs from that of the truth."""
    if pred.centers.shape[1:] != truth.centers.shape[1:]:
        return  # 2D against 3D, which the score itself refuses
    if pred.shape and truth.shape and pred.shape != truth.shape:
        raise InputError(
            f"{pred.source}: its image has shape {pred.shape} and that of {truth.source} {truth.shape}. "
            "Give picks of one image."
        )
    sizes = (pred.pixel_size, truth.pixel_size)
    if config.pixel_size is None and (problem := voxel_size_mismatch(*((size,) * 3 for size in sizes))):
        raise InputError(f"{pred.source}: {problem}")
    shape = config.shape or truth.shape or pred.shape
    if how := find_changed_axes(pred.centers, truth.centers, radius_px=radius_px, shape=shape):
        raise InputError(
            f"{pred.source}: the picks fit {truth.source.name} only {how}. Write both in one order, mirrored "
            "axes with `cryoseg convert --flip` (CryoPPP's tables count rows from below)."
        )


def _read_all(
    given: str | Path | Sequence[Path], config: EvaluatePicksConfig
) -> tuple[dict[str, tuple[ImageName, Picks]], list[str]]:
    """Read picks; return them with their image by the shortest unique name, and the error messages."""
    # Coordinates of Topaz have the suffix .txt, like lists of files.
    if (
        isinstance(given, str | Path)
        and str(given).lower().endswith(".txt")
        and is_coordinate_table(Path(given))
    ):
        items = [InputItem(path=Path(given))]
    else:
        inputs: Sequence[str | Path] = [given] if isinstance(given, str | Path) else given
        items = resolve_inputs(inputs, suffixes=LISTED_SUFFIXES, leave_out=None)
    frame = PickFrame(voxel_size=config.pixel_size or 0.0, shape=config.shape)
    read: dict[Path, tuple[ImageName, Picks]] = {}
    problems = []
    for item in items:
        try:
            if item.error is not None:
                raise InputError(item.error)
            for name, picks in read_picks(item.path, frame).items():
                own = ImageName(name, item.path)
                place = Path(*own.folders, own.core)
                if place in read and own.differs(read[place][0]):
                    place = Path(*own.folders, own.path.name)
                elif place in read and own.core != (file_core := ImageName("", item.path).core):
                    place = Path(*own.folders, file_core)  # picks of one batch that have folders in the name
                if place in read:
                    other = read[place][1].source.name
                    raise InputError(f"{item.path}: {other} holds picks of {own.core} too. Keep one of them.")
                read[place] = own, picks
        except CryosegError as error:
            problems.append(str(error))
    return dict(zip(distinct_names([*read]), read.values(), strict=True)), problems
