"""Find the files of published runs and their addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryoseg.config.fetch_data import FetchConfig, VolumeFormat
from cryoseg.errors import CryosegError, InputError
from cryoseg.io.web.archives import (
    DATAVERSE,
    ETSAM_DOI,
    PORTAL_API,
    PORTAL_BUCKET,
    ListedRun,
    PortalRun,
    PortalTomogram,
    find_run,
    list_dataset,
    read_testset,
)
from cryoseg.io.web.download import offline_variable
from cryoseg.io.web.http import RemoteFile, announced_size

# Source: CryoPPP, README of its repository: one archive for each EMPIAR number.
CRYOPPP = "https://calla.rnet.missouri.edu"
_CRYOPPP = re.compile(r"(cryoppp|cryoppp_lite):(\d{5})")
_RUN = re.compile(r"([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)")
# Voxel sizes of two tomograms of a run differ by percents; the same size in two records, by rounding.
_SAME_VOXEL_SIZE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Services:
    """Addresses of the services."""

    portal_api: str = PORTAL_API
    portal_bucket: str = PORTAL_BUCKET
    dataverse: str = DATAVERSE
    etsam_doi: str = ETSAM_DOI
    cryoppp: str = CRYOPPP


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Files of one run or of one archive.

    Attributes
    ----------
    name
        Name of the run, such as 10000/247 or cryoppp:10017.
    folder
        Folder of the files.
    files
        Files to download; empty if `error` is set.
    join_masks
        Whether a target mask is made from the downloaded annotations.
    archive
        Whether the only file is an archive, which is unpacked into `folder`.
    notes
        Messages for the user.
    error
        Error message in one sentence if the run cannot be downloaded.
    """

    name: str
    folder: Path
    files: tuple[RemoteFile, ...] = ()
    join_masks: bool = False
    archive: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def size(self) -> int:
        """Total size in bytes, as far as the servers report it."""
        return sum(file.size or 0 for file in self.files)


def plan_fetch(
    wanted: Sequence[str],
    output_dir: Path,
    config: FetchConfig | None = None,
    *,
    services: Services | None = None,
) -> list[Planned]:
    """Find the files of published runs.

    Parameters
    ----------
    wanted
        CSV lists in the form of ETSAM, `DATASET/RUN` with the number or name of the run, `cryoppp:ID`
        and `cryoppp_lite:ID`.
    output_dir
        Output folder; the files of a run are in `<output_dir>/<dataset>/<run>`.
    config
        Files to download; None uses the defaults.
    services
        Addresses of the services; None uses the public ones.

    Returns
    -------
    list of Planned
        Each run once, in order; a run that cannot be downloaded has an error.

    Raises
    ------
    InputError
        If an entry has another form, a list cannot be read, or the network is forbidden.
    """
    if variable := offline_variable():
        raise InputError(f"{variable} is set, so nothing is downloaded. Unset it to use the network.")
    planner = _Planner(output_dir, config or FetchConfig(), services or Services())
    plan: dict[str, Planned] = {}
    for text in wanted:
        if archive := _CRYOPPP.fullmatch(text):
            plan[text] = planner.cryoppp(archive[1], archive[2])
        elif text.lower().endswith(".csv"):
            rows = [row for row in read_testset(Path(text)) if planner.config.split in ("", row.split)]
            if not rows:
                raise InputError(f"{text}: no row has the split {planner.config.split!r}.")
            plan |= {row.name: planner.listed(row) for row in rows if row.name not in plan}
        elif run := _RUN.fullmatch(text):
            plan.setdefault(text, planner.single(run[1], run[2]))
        else:
            raise InputError(f"{text}: give a .csv list, DATASET/RUN such as 10000/247, or cryoppp:10017.")
    return list(plan.values())


@dataclass(frozen=True)
class _Planner:
    output_dir: Path
    config: FetchConfig
    services: Services
    _listing: dict[str, dict[str, list[RemoteFile]]] = field(default_factory=dict)

    def single(self, dataset: str, run: str) -> Planned:
        """Plan a run of the portal, or another run of ETSAM from the Dataverse."""
        folder = self.output_dir / dataset / run
        try:
            if not dataset.isdigit():
                files = [
                    *self._dataverse(dataset, run, "tomogram"),
                    *self._dataverse(dataset, run, "target_mask"),
                ]
                if not files:
                    raise InputError(
                        f"{dataset}/{run}: neither a portal number nor in {self.services.etsam_doi}."
                    )
                return Planned(name=f"{dataset}/{run}", folder=folder, files=tuple(files))
            found = find_run(dataset, run, api=self.services.portal_api)
            tomogram, notes = self._choose(found)
            files = self._tomogram_files(found, tomogram)
            if self.config.annotations:
                files += [one.file for one in found.annotations if _on_grid(one.voxel_size, tomogram)]
        except CryosegError as error:
            return Planned(name=f"{dataset}/{run}", folder=folder, error=str(error))
        return Planned(name=f"{dataset}/{run}", folder=folder, files=tuple(files), notes=notes)

    def listed(self, row: ListedRun) -> Planned:
        """Plan the tomogram and the target mask of a row of the list of ETSAM."""
        folder = self.output_dir / row.dataset_id / row.run_id
        notes: tuple[str, ...] = ()
        join = False
        try:
            found: PortalRun | None = None
            tomogram: PortalTomogram | None = None
            files: list[RemoteFile] = []
            if row.dataset_id.isdigit():
                try:
                    found = find_run(row.dataset_id, row.run_id, api=self.services.portal_api)
                    tomogram, notes = self._choose(found)
                    files = self._tomogram_files(found, tomogram)
                except CryosegError as error:
                    notes = (f"{error} Its tomogram is taken from {self.services.etsam_doi}.",)
            files = files or self._dataverse(row.dataset_id, row.run_id, "tomogram")
            if not files:
                raise InputError(
                    f"{row.name}: no tomogram in the CryoET Data Portal nor in {self.services.etsam_doi}."
                )
            masks = self._dataverse(row.dataset_id, row.run_id, "target_mask")
            if not masks and found is not None and tomogram is not None:
                masks = [
                    one.file
                    for one in found.annotations
                    if one.is_mask and one.number in row.annotation_ids and _on_grid(one.voxel_size, tomogram)
                ]
                join = bool(masks)
            if not masks:
                raise InputError(
                    f"{row.name}: no target mask in {self.services.etsam_doi}, and no mask among "
                    "its annotation_ids in the CryoET Data Portal."
                )
        except CryosegError as error:
            return Planned(name=row.name, folder=folder, error=str(error))
        return Planned(name=row.name, folder=folder, files=(*files, *masks), join_masks=join, notes=notes)

    def cryoppp(self, kind: str, number: str) -> Planned:
        """Plan the archive of one data set of CryoPPP."""
        name, url = f"{kind}:{number}", f"{self.services.cryoppp}/{kind}/{number}.tar.gz"
        folder = self.output_dir / kind / number
        try:
            file = RemoteFile(url=url, path=f"{number}.tar.gz", size=announced_size(url))
        except CryosegError as error:
            return Planned(name=name, folder=folder, error=f"{name}: {error}")
        note = (
            f"{name}: the coordinate tables of CryoPPP count rows from below in its MRC files; "
            "`cryoseg convert --flip-y --image MICROGRAPH` converts them."
        )
        return Planned(name=name, folder=folder, files=(file,), archive=True, notes=(note,))

    def _choose(self, run: PortalRun) -> tuple[PortalTomogram, tuple[str, ...]]:
        wanted = self.config.tomogram_id
        usable = [one for one in run.tomograms if one.mrc is not None or one.omezarr_key]
        chosen = [one for one in usable if wanted in (None, one.number)]
        names = ", ".join(f"{one.number} ({one.processing}, {one.voxel_size:g} A)" for one in usable)
        if not chosen:
            raise InputError(
                f"{run.dataset}/{run.number}: has no tomogram {wanted}; there are {names}."
                if usable
                else f"{run.dataset}/{run.number}: the CryoET Data Portal has no tomogram of this run."
            )
        if len(chosen) == 1:
            return chosen[0], ()
        note = f"{run.dataset}/{run.number}: the first of the tomograms {names} is used (--tomogram-id)."
        return chosen[0], (note,)

    def _tomogram_files(self, run: PortalRun, tomogram: PortalTomogram) -> list[RemoteFile]:
        if self.config.volume_format is VolumeFormat.OME_ZARR and tomogram.omezarr_key:
            return tomogram.omezarr(self.services.portal_bucket)
        if tomogram.mrc is None:
            raise InputError(
                f"{run.dataset}/{run.number}: tomogram {tomogram.number} has no MRC file. "
                "Pass --volume-format ome-zarr."
            )
        return [tomogram.mrc]

    def _dataverse(self, dataset: str, run: str, kind: str) -> list[RemoteFile]:
        doi = self.services.etsam_doi
        if doi not in self._listing:
            self._listing[doi] = list_dataset(doi, server=self.services.dataverse)
        return self._listing[doi].get(f"{dataset}/{run}/{kind}", [])


def _on_grid(voxel_size: float | None, tomogram: PortalTomogram) -> bool:
    if voxel_size is None:
        return True
    return abs(voxel_size - tomogram.voxel_size) <= _SAME_VOXEL_SIZE * tomogram.voxel_size
