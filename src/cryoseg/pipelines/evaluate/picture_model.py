"""Segment pictures before their masks are scored."""

from __future__ import annotations

from pathlib import Path

from cryoseg.config.pictures import ImageSettings
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, ignore
from cryoseg.io.images.pictures import PICTURE_SUFFIXES
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.segment.image import segment_images


def segment_pictures(
    pictures: Path,
    output_dir: Path,
    model: ParticleModel,
    *,
    points: Path | None = None,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> Path:
    """Segment pictures and write their masks into sub-folders of the same names.

    Parameters
    ----------
    pictures
        One picture, or a folder of pictures, whose sub-folders are data sets.
    output_dir
        Folder of the masks.
    model
        Model from `load_particle_model`.
    points
        True masks from which the points are drawn, in the same sub-folders; None lets the model prompt
        itself.
    overwrite
        Whether finished masks are replaced.
    on_event
        Callback for warnings and rows.

    Returns
    -------
    Path
        Folder of the masks, or the mask of the only picture.

    Raises
    ------
    InputError
        If there is no picture.
    """
    batch = Batch(overwrite=overwrite)
    if pictures.is_file():
        settings = ImageSettings(points=points)
        (row,) = segment_images([pictures], output_dir, model, settings, batch=batch, on_event=on_event).rows
        if not row.outputs:
            raise InputError(row.message)
        return row.outputs[0]
    folders = sorted({path.parent for path in pictures.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES})
    if not folders:
        raise InputError(f"{pictures}: holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    for folder in folders:
        place = folder.relative_to(pictures)
        own = points / place if points is not None and (points / place).is_dir() else points
        segment_images(
            [folder],
            output_dir / place,
            model,
            ImageSettings(points=own),
            batch=batch,
            on_event=on_event,
        )
    return output_dir
