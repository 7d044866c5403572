"""Segment pictures before their masks are scored."""

from __future__ import annotations

from pathlib import Path

from cryoseg.config.pictures import ImageSettings
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, ignore
from cryoseg.io.images.pictures import PICTURE_SUFFIXES
from cryoseg.methods.particles.model import ParticleModel
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
    """Write the masks of pictures in the same folders, each of which is a data set.

    Parameters
    ----------
    pictures
        One picture, or a folder of pictures and of folders of them.
    output_dir
        Receives the masks.
    model
        From `load_particle_model`.
    points
        True masks from which the points are drawn, in the folders of the pictures.
    overwrite
        Replace finished masks.
    on_event
        Receives warnings and failed rows.

    Returns
    -------
    Path
        The folder of the masks, or the mask of the one picture.

    Raises
    ------
    InputError
        If there is no picture.
    """
    if pictures.is_file():
        settings = ImageSettings(points=points)
        (row,) = segment_images(
            [pictures], output_dir, model, settings, overwrite=overwrite, on_event=on_event
        ).rows
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
            overwrite=overwrite,
            on_event=on_event,
        )
    return output_dir
