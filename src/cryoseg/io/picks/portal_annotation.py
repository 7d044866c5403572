"""Folders in the layout of annotations of the CryoET Data Portal.

Sources: chanzuckerberg/cryoet-data-portal-backend, schema/README.md@40bebf7 (folders),
schema/v1.1.0/metadata-docs/Annotation.md@0dca626 (metadata), and in ingestion_tools/scripts
common/metadata.py@09157da and importers/annotation.py@0042d00 (names and entries of files, object counts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.common import OutputFormat
from cryoseg.errors import ConfigError
from cryoseg.io.images.volumes import made_by, write_mask
from cryoseg.io.outputs import atomic_text, make_folder
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.ndjson import write_ndjson
from cryoseg.types import BoolArray, Picks, Tomogram

# Identifier of an annotation until the portal gives it one; its importer counts from here.
_IDENTIFIER = "100"
MEMBRANE = {"name": "membrane", "id": "GO:0016020"}  # Source: Gene Ontology, GO:0016020


@dataclass(frozen=True)
class PortalAnnotation:
    """Metadata of annotations, which the files of every input are added to.

    Attributes
    ----------
    metadata
        Content of the metadata file of an annotation, without `files` and `object_count`.
    """

    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, *, target: Mapping[str, str] | None = None) -> PortalAnnotation:
        """Read the metadata that the user gives, and add what is missing.

        Parameters
        ----------
        path
            JSON file with `authors`, each with a `name`, and any other entries of the portal's schema.
        target
            Annotated object, where the file names none.

        Raises
        ------
        ConfigError
            If the file cannot be read, or names no authors or no object.
        """
        option = f"--portal-annotation {path}"
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{option}: cannot be read as JSON ({error}).") from error
        today = datetime.now(UTC).date().isoformat()
        metadata: dict[str, Any] = {
            "annotation_object": target,
            "annotation_software": f"cryoseg {__version__}",
            "method_type": "automated",
            "dates": {"deposition_date": today, "release_date": today, "last_modified_date": today},
            "version": "1.0",
            "ground_truth_status": False,
            "is_curator_recommended": False,
            **(given if isinstance(given, dict) else {}),
        }
        authors = metadata.get("authors")
        if not isinstance(authors, list) or not authors or not all(map(_is_named, authors)):
            raise ConfigError(
                f"{option}: names no authors. Write at least "
                '{"authors": [{"name": "...", "ORCID": "...", "primary_author_status": true}]}.'
            )
        if not _is_named(metadata["annotation_object"]) or not metadata["annotation_object"].get("id"):
            raise ConfigError(
                f"{option}: names no object. Write its name and its identifier in the Gene Ontology or "
                'UniProt, as "annotation_object": {"name": "cytosolic ribosome", "id": "GO:0022626"}.'
            )
        return cls(metadata)

    def write_mask(self, folder: Path, run: str, tomogram: Tomogram, mask: BoolArray, *, method: str) -> None:
        """Write a mask (z, y, x) as MRC and OME-Zarr, and its metadata.

        Parameters
        ----------
        folder
            Folder to make; it holds the folder of the run.
        run
            Name of the run.
        tomogram
            Tomogram of the mask.
        mask
            (z, y, x) mask.
        method
            Description of the method, unless the metadata have one.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        prefix = self._prefix(folder, run, tomogram.geometry.voxel_size[2])
        files = []
        for output_format, kind in ((OutputFormat.ZARR, "zarr"), (OutputFormat.MRC, "mrc")):
            path = prefix.with_name(f"{prefix.name}_segmentationmask.{kind}")
            label = made_by("segment")
            write_mask(path, mask, tomogram.geometry, label=label, output_format=output_format)
            files.append((kind, path))
        # The importer of the portal counts no objects in masks.
        self._write_metadata(prefix, folder, method, {"SegmentationMask": files}, count=0)

    def write_picks(self, folder: Path, run: str, picks: Picks, frame: PickFrame, *, method: str) -> None:
        """Write picks as points, oriented points or instances, and their metadata.

        Parameters
        ----------
        folder, run
            Folder to make, and name of the run, whose folder it contains.
        picks
            Picks in voxels of the tomogram.
        frame
            Frame of the tomogram with its voxel size.
        method
            Description of the method, unless the metadata have one.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        prefix = self._prefix(folder, run, frame.voxel_size)
        shape, count = "Point", len(picks)
        if picks.rotations is not None:
            shape = "OrientedPoint"
        elif picks.tracks is not None:
            shape, count = "InstanceSegmentation", len(set(picks.tracks.tolist()))
        path = prefix.with_name(f"{prefix.name}_{shape.lower()}.ndjson")
        write_ndjson(path, {run: picks}, frame)
        self._write_metadata(prefix, folder, method, {shape: [("ndjson", path)]}, count=count)

    def _prefix(self, folder: Path, run: str, voxel_size: float) -> Path:
        """Make the folder of the annotation, and return the path of its files without their ends."""
        spacing = folder / run / "Reconstructions" / f"VoxelSpacing{voxel_size:.3f}"
        target = self.metadata["annotation_object"]
        name = re.sub("[^0-9a-z]", "_", str(target.get("description") or target["name"]).lower())
        version = re.sub("[^0-9a-z.]", "_", str(self.metadata["version"]).lower())
        return make_folder(spacing / "Annotations" / _IDENTIFIER) / f"{name}-{version}"

    def _write_metadata(
        self,
        prefix: Path,
        folder: Path,
        method: str,
        files: Mapping[str, list[tuple[str, Path]]],
        *,
        count: int,
    ) -> None:
        entries = [
            {
                "format": kind,
                "path": path.relative_to(folder).as_posix(),
                "shape": shape,
                "is_visualization_default": False,
            }
            for shape, found in files.items()
            for kind, path in found
        ]
        content = {"annotation_method": method, **self.metadata, "object_count": count, "files": entries}
        with atomic_text(prefix.with_name(f"{prefix.name}.json")) as stream:
            json.dump(content, stream, indent=2)


def _is_named(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get("name"))
