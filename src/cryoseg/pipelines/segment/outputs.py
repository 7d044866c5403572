"""Names and writing of the outputs of one tomogram."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryoseg.config import Naming, SegmentConfig, SegmentOutputs
from cryoseg.core.masks.postprocess import find_components
from cryoseg.io.images.pixel_size import PixelSize
from cryoseg.io.images.volumes import made_by, write_logits, write_mask
from cryoseg.io.inputs import stem
from cryoseg.io.outputs import ANNOTATION_SUFFIX, folder_of
from cryoseg.io.picks.chimerax import Scene, write_scene
from cryoseg.io.picks.portal_annotation import MEMBRANE, PortalAnnotation
from cryoseg.pipelines.segment.model import SegmentRun
from cryoseg.types import BoolArray, SegmentResult, Tomogram
from cryoseg.view.previews import draw_preview
from cryoseg.view.sections import write_png

LABELS = 127  # components with a color of their own, which int8 limits


def output_paths(folder: Path, stem: str, config: SegmentConfig, outputs: SegmentOutputs) -> dict[str, Path]:
    """Return the output files of one input by kind; the record is the last one."""
    base = f"{stem}_membrane"
    if outputs.naming is Naming.ETSAM:
        # Source: jianlin-cheng/ETSAM etsam.py@9ad0d23.
        base = f"{stem}_etsam_predicted{'_split_processing' if config.split_processing else ''}"
    suffix = outputs.output_format.suffix
    paths = {"mask": folder / f"{base}_mask{suffix}"}
    if outputs.store_logits:
        paths["logits"] = folder / f"{base}_logits{suffix}"
    if config.uncertainty:
        paths["uncertainty"] = folder / f"{base}_uncertainty{suffix}"
    if config.postprocess:
        paths["post_processed_mask"] = folder / f"{base}_post_processed_mask{suffix}"
    if outputs.preview:
        paths["preview"] = folder / f"{base}_preview.png"
    if outputs.chimerax:
        paths["components"] = folder / f"{base}_components.mrc"
        paths["scene"] = folder / f"{base}.cxc"
    if outputs.portal_annotation is not None:
        paths["annotation"] = folder / f"{base}{ANNOTATION_SUFFIX}"
    paths["record"] = folder / f"{base}.json"
    return paths


def write_outputs(
    outputs: Mapping[str, Path],
    tomogram: Tomogram,
    result: SegmentResult,
    run: SegmentRun,
    written: SegmentOutputs,
    pixel_size: PixelSize,
) -> BoolArray:
    """Write all outputs but the record.

    Parameters
    ----------
    outputs
        Temporary names by kind, as `output_paths`.
    tomogram, result, pixel_size
        The input, its segmentation, and the pixel size at which it was segmented.
    run
        Model and settings.
    written
        Form of the outputs.

    Returns
    -------
    ndarray of bool
        (z, y, x) final mask: the filtered one where there is one.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    final = result.mask if result.post_processed is None else result.post_processed
    for kind, write, volume in (
        ("mask", write_mask, result.mask),
        ("logits", write_logits, result.logits),
        ("uncertainty", write_logits, result.uncertainty),
        ("post_processed_mask", write_mask, final),
    ):
        if kind in outputs and volume is not None:
            write(
                outputs[kind],
                volume,
                tomogram.geometry,
                label=made_by("segment"),
                output_format=written.output_format,
            )
    if "preview" in outputs:
        picture = draw_preview(
            tomogram.data,
            final,
            pixel_size=pixel_size.angstrom,
            logits=result.logits,
            logit_threshold=run.config.logit_threshold,
        )
        write_png(outputs["preview"], picture)
    if "scene" in outputs:
        ranked = find_components(final).ranked(LABELS)
        write_mask(outputs["components"], ranked, tomogram.geometry, label=made_by("segment"))
        folder = folder_of(outputs["scene"])
        scene = Scene(
            tomogram=tomogram,
            mask=folder / outputs.get("post_processed_mask", outputs["mask"]).name,
            labels=folder / outputs["components"].name if final.any() else None,
        )
        write_scene(outputs["scene"], scene, folder)
    if written.portal_annotation is not None:
        PortalAnnotation.read(written.portal_annotation, target=MEMBRANE).write_mask(
            outputs["annotation"],
            stem(tomogram.source),
            tomogram,
            final,
            method=f"cryoseg segment with the model {run.model.name}",
        )
    return final
