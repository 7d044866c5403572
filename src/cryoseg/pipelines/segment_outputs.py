"""Names of the files that `cryoseg segment` writes."""

from __future__ import annotations

from pathlib import Path

from cryoseg.config import Naming, SegmentConfig, SegmentOutputs


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
