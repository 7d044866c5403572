"""Runs of the CryoET Data Portal: which tomograms and annotations there are, and where.

Source: the portal's GraphQL schema, and its API documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cryoseg.errors import InputError
from cryoseg.io.web.http import fetch_json
from cryoseg.io.web.remote_files import RemoteFile, list_bucket, safe_path

PORTAL_API = "https://graphql.cryoetdataportal.czscience.com/graphql"
PORTAL_BUCKET = "https://cryoet-data-portal-public.s3.amazonaws.com"

_RUNS = "query ($where: RunWhereClause!) { runs(where: $where) { id name datasetId } }"
_CONTENT = """
query ($run: Int!) {
  tomograms(where: {runId: {_eq: $run}}, orderBy: [{id: asc}]) {
    id processing voxelSpacing httpsMrcFile fileSizeMrc s3OmezarrDir
  }
  annotationFiles(where: {annotationShape: {annotation: {runId: {_eq: $run}}}}, orderBy: [{id: asc}]) {
    format httpsPath fileSize
    tomogramVoxelSpacing { voxelSpacing }
    annotationShape { shapeType annotation { id objectName } }
  }
}
"""
MASK_SHAPE = "SegmentationMask"


@dataclass(frozen=True, kw_only=True)
class PortalTomogram:
    """One reconstruction of a run.

    Attributes
    ----------
    number
        The portal's id.
    processing
        Such as raw or denoised.
    voxel_size
        In angstrom.
    mrc
        The MRC file, if there is one.
    omezarr_key
        Key of the OME-Zarr folder in the bucket, with a slash at its end; empty if there is none.
    """

    number: int
    processing: str
    voxel_size: float
    mrc: RemoteFile | None
    omezarr_key: str

    def omezarr(self, bucket_url: str) -> list[RemoteFile]:
        """The files of the OME-Zarr volume, listed now."""
        name = self.omezarr_key.rstrip("/").rsplit("/", 1)[-1]
        return list_bucket(bucket_url, self.omezarr_key, folder=f"tomogram/{name}")


@dataclass(frozen=True, kw_only=True)
class PortalAnnotation:
    """One file of an annotation.

    Attributes
    ----------
    number
        The portal's id of the annotation.
    what
        Name of the annotated object.
    is_mask
        A mask on the grid of the tomogram; otherwise points.
    voxel_size
        Of the tomogram that it belongs to, in angstrom; None if the portal does not say.
    file
        Where it is.
    """

    number: int
    what: str
    is_mask: bool
    voxel_size: float | None
    file: RemoteFile


@dataclass(frozen=True, kw_only=True)
class PortalRun:
    """A run with what can be fetched of it, each list in the order of the portal's ids."""

    dataset: int
    number: int
    name: str
    tomograms: tuple[PortalTomogram, ...]
    annotations: tuple[PortalAnnotation, ...]


def find_run(dataset: str, run: str, *, api: str = PORTAL_API) -> PortalRun:
    """Ask the portal for a run.

    Parameters
    ----------
    dataset
        The dataset's number.
    run
        The run's number, or its name.
    api
        Address of the GraphQL service.

    Raises
    ------
    InputError
        If the dataset has no such run.
    WeightsError
        If the portal does not answer.
    """
    if not dataset.isdigit():
        raise InputError(f"{dataset}/{run}: the CryoET Data Portal numbers its datasets, such as 10000/247.")
    which = {"id": {"_eq": int(run)}} if run.isdigit() else {"name": {"_eq": run}}
    runs = _ask(api, _RUNS, {"where": {"datasetId": {"_eq": int(dataset)}} | which}, ("runs",))["runs"]
    if not runs:
        raise InputError(f"{dataset}/{run}: the CryoET Data Portal has no such run. Check both numbers.")
    try:
        number = int(runs[0]["id"])
        content = _ask(api, _CONTENT, {"run": number}, ("tomograms", "annotationFiles"))
        return PortalRun(
            dataset=int(runs[0]["datasetId"]),
            number=number,
            name=str(runs[0]["name"]),
            tomograms=tuple(_tomogram(entry) for entry in content["tomograms"]),
            annotations=tuple(
                _annotation(entry)
                for entry in content["annotationFiles"]
                if entry["format"] in ("mrc", "ndjson")
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{api}: the answer for {dataset}/{run} has another form ({error!r}).") from error


def _ask(api: str, query: str, variables: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    answer = fetch_json(api, body={"query": query, "variables": variables})
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or any(not isinstance(data.get(name), list) for name in wanted):
        errors = answer.get("errors") if isinstance(answer, dict) else None
        reason = (
            errors[0].get("message") if errors and isinstance(errors[0], dict) else "no data in the answer"
        )
        raise InputError(f"{api}: the portal refused the question ({reason}).")
    return data


def _tomogram(entry: dict[str, Any]) -> PortalTomogram:
    url, folder = entry["httpsMrcFile"] or "", entry["s3OmezarrDir"] or ""
    mrc = None
    if url:
        path = safe_path(f"tomogram/{_base_name(url)}", url=url)
        mrc = RemoteFile(url=url, path=path, size=_size(entry["fileSizeMrc"]))
    key = urlsplit(folder).path.strip("/")
    return PortalTomogram(
        number=int(entry["id"]),
        processing=str(entry["processing"]),
        voxel_size=float(entry["voxelSpacing"]),
        mrc=mrc,
        omezarr_key=f"{key}/" if key else "",
    )


def _annotation(entry: dict[str, Any]) -> PortalAnnotation:
    shape, spacing, url = entry["annotationShape"], entry["tomogramVoxelSpacing"], entry["httpsPath"]
    number = int(shape["annotation"]["id"])
    path = safe_path(f"annotations/{number}_{_base_name(url)}", url=url)
    return PortalAnnotation(
        number=number,
        what=str(shape["annotation"]["objectName"]),
        is_mask=shape["shapeType"] == MASK_SHAPE and entry["format"] == "mrc",
        voxel_size=None if spacing is None else float(spacing["voxelSpacing"]),
        file=RemoteFile(url=url, path=path, size=_size(entry["fileSize"])),
    )


def _base_name(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[-1]


def _size(value: float | None) -> int | None:
    return None if value is None else int(value)
