"""Names of the files that `cryoseg segment` writes, and whether they may be written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryoseg.config import Naming, SegmentConfig, SegmentOutputs
from cryoseg.errors import OutputError
from cryoseg.pipelines.events import Row, Status

_LABELS = slice(224, 1024)  # the ten label lines of an MRC header, in bytes


def output_paths(folder: Path, stem: str, config: SegmentConfig, outputs: SegmentOutputs) -> dict[str, Path]:
    """Every file that a run writes for one input, by kind; the record comes last."""
    base = f"{stem}_membrane"
    if outputs.naming is Naming.ETSAM:
        base = f"{stem}_etsam{'_split_processing' if config.split_processing else ''}_predicted"
    paths = {"mask": folder / f"{base}_mask.mrc"}
    if outputs.store_logits:
        paths["logits"] = folder / f"{base}_logits.mrc"
    if config.postprocess:
        paths["post_processed_mask"] = folder / f"{base}_post_processed_mask.mrc"
    if outputs.preview:
        paths["preview"] = folder / f"{base}_preview.png"
    paths["record"] = folder / f"{base}.json"
    return paths


def keep_finished(name: str, paths: Mapping[str, Path]) -> Row | None:
    """A row that says that finished outputs are kept; None if the input is to be segmented.

    Pieces that a broken run of cryoseg left (there is no record yet) may be replaced. What another
    program made, or a finished run that wrote fewer files, may not.

    Raises
    ------
    OutputError
        If a file would be replaced that is not ours to replace.
    """
    existing = [path for path in paths.values() if path.exists()]
    missing = [path for path in paths.values() if not path.exists()]
    if not missing:
        return Row(
            name=name,
            status=Status.SKIPPED,
            outputs=tuple(paths.values()),
            message="finished outputs are kept; --overwrite replaces them",
        )
    if paths["record"].exists():
        raise OutputError(
            f"{paths['record']}: a finished run wrote its outputs but not {missing[0].name}. "
            "Pass --overwrite to make them all again, or choose another --output-dir."
        )
    for path in existing:
        if path.suffix == ".mrc" and not _made_by_cryoseg(path):
            raise OutputError(
                f"{path}: exists already and was not made by cryoseg. "
                "Pass --overwrite to replace it, or choose another --output-dir."
            )
    return None


def _made_by_cryoseg(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"cryoseg" in stream.read(_LABELS.stop)[_LABELS]
