"""Files of published runs: lists of runs, the CryoET Data Portal, and Dataverse repositories.

Sources: the GraphQL schema of the portal and its API documentation; Dataverse guides, native API (files of a
dataset version) and data access API.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from cryoseg.errors import InputError
from cryoseg.io.web.http import RemoteFile, fetch_json, list_bucket, safe_path

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
    """One tomogram of a run.

    Attributes
    ----------
    number
        Identifier in the portal.
    processing
        Processing, such as raw or denoised.
    voxel_size
        Voxel size in angstrom.
    mrc
        MRC file, if there is one.
    omezarr_key
        Key of the OME-Zarr folder in the bucket, with a slash at its end; empty if there is none.
    """

    number: int
    processing: str
    voxel_size: float
    mrc: RemoteFile | None
    omezarr_key: str

    def omezarr(self, bucket_url: str) -> list[RemoteFile]:
        """Return the files of the OME-Zarr volume, from a listing of the bucket."""
        name = self.omezarr_key.rstrip("/").rsplit("/", 1)[-1]
        return list_bucket(bucket_url, self.omezarr_key, folder=f"tomogram/{name}")


@dataclass(frozen=True, kw_only=True)
class PublishedAnnotation:
    """One file of an annotation.

    Attributes
    ----------
    number
        Identifier of the annotation in the portal.
    what
        Name of the annotated object.
    is_mask
        Whether the file is a mask on the grid of the tomogram, and not points.
    voxel_size
        Voxel size of the tomogram in angstrom; None if the portal does not give it.
    """

    number: int
    what: str
    is_mask: bool
    voxel_size: float | None
    file: RemoteFile


@dataclass(frozen=True, kw_only=True)
class PortalRun:
    """A run with its tomograms and annotations in the order of their identifiers."""

    dataset: int
    number: int
    name: str
    tomograms: tuple[PortalTomogram, ...]
    annotations: tuple[PublishedAnnotation, ...]


def find_run(dataset: str, run: str, *, api: str = PORTAL_API) -> PortalRun:
    """Return a run of the portal, given by the number of its dataset and its own number or name.

    Raises
    ------
    InputError
        If the dataset has no such run.
    WeightsError
        If the portal does not respond.
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


def _annotation(entry: dict[str, Any]) -> PublishedAnnotation:
    shape, spacing, url = entry["annotationShape"], entry["tomogramVoxelSpacing"], entry["httpsPath"]
    number = int(shape["annotation"]["id"])
    path = safe_path(f"annotations/{number}_{_base_name(url)}", url=url)
    return PublishedAnnotation(
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


DATAVERSE = "https://dataverse.harvard.edu"
# ETSAM's masks and simulated tomograms. Source: jianlin-cheng/ETSAM scripts/collect_data.py@b859060.
ETSAM_DOI = "doi:10.7910/DVN/K4JKCW"


def list_dataset(doi: str = ETSAM_DOI, *, server: str = DATAVERSE) -> dict[str, list[RemoteFile]]:
    """Return the files of a dataset by folder, such as `10000/247/target_mask`.

    `RemoteFile.path` is the last part of the folder and the name. The DOI begins with `doi:`.

    Raises
    ------
    InputError
        If the response has another form.
    WeightsError
        If the repository does not respond.
    """
    question = urlencode({"persistentId": doi})
    url = f"{server}/api/datasets/:persistentId/versions/:latest-published/files?{question}"
    answer = fetch_json(url)
    folders: dict[str, list[RemoteFile]] = {}
    try:
        for entry in answer["data"]:
            folder = entry.get("directoryLabel", "")
            kind = folder.rsplit("/", 1)[-1]
            folders.setdefault(folder, []).append(_file(entry, kind=kind, server=server, url=url))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{url}: the list of files has another form ({error!r}).") from error
    return folders


def _file(entry: dict[str, Any], *, kind: str, server: str, url: str) -> RemoteFile:
    data = entry["dataFile"]
    checksum = data.get("checksum") or {}
    md5 = data.get("md5") or (checksum.get("value") if checksum.get("type") == "MD5" else None)
    name = f"{kind}/{entry['label']}" if kind else entry["label"]
    return RemoteFile(
        url=f"{server}/api/access/datafile/{int(data['id'])}",
        path=safe_path(name, url=url),
        size=int(data["filesize"]),
        md5=md5,
    )


_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """One row of a list of runs in the form of ETSAM.

    Attributes
    ----------
    dataset_id, run_id
        Identifiers in the file, and names of the folders in a collection.
    annotation_ids
        Identifiers of annotations in the CryoET Data Portal; empty if the file gives none.
    split
        Use of the run, such as train or test; empty if the file has no such column.
    organism
        Name of the organism, or empty.
    """

    dataset_id: str
    run_id: str
    annotation_ids: tuple[int, ...] = ()
    split: str = ""
    organism: str = ""

    @property
    def name(self) -> str:
        """`dataset/run`."""
        return f"{self.dataset_id}/{self.run_id}"


def read_testset(path: Path) -> list[ListedRun]:
    """Read a list of runs.

    Parameters
    ----------
    path
        CSV file with the columns dataset_id and run_id, and optionally annotation_ids (numbers separated by
        `|`, or none), split and organism_name. Other columns are ignored.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, has no row, names a run twice, or a row is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
            header = rows[0].keys() if rows else ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV file ({error}).") from error
    if not rows:
        raise InputError(f"{path}: holds no run. Give a header and one row for each run.")
    if missing := {"dataset_id", "run_id"} - set(header):
        raise InputError(f"{path}: has no column {sorted(missing)[0]}; dataset_id and run_id are needed.")
    runs: list[ListedRun] = []
    for number, row in enumerate(rows, 2):
        cells = {name: (value or "").strip() for name, value in row.items() if isinstance(value, str)}
        for column in ("dataset_id", "run_id"):
            if not _PART.fullmatch(cells.get(column, "")):
                raise InputError(f"{path}: line {number} has {column} {cells.get(column, '')!r}; correct it.")
        words = [word for word in cells.get("annotation_ids", "").split("|") if word not in ("", "none")]
        if bad := [word for word in words if not word.isdigit()]:
            raise InputError(f"{path}: line {number} has annotation_ids {bad[0]!r}; give numbers or none.")
        run = ListedRun(
            dataset_id=cells["dataset_id"],
            run_id=cells["run_id"],
            annotation_ids=tuple(int(word) for word in words),
            split=cells.get("split", ""),
            organism=cells.get("organism_name", ""),
        )
        if run.name in {other.name for other in runs}:
            raise InputError(f"{path}: line {number} names {run.name} a second time. Keep one row.")
        runs.append(run)
    return runs
