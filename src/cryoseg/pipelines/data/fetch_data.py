"""Download published tomograms, annotations and micrographs."""

from __future__ import annotations

import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoseg import __version__
from cryoseg.errors import CryosegError, InputError, OutputError, WeightsError
from cryoseg.events import Note, OnEvent, Report, Row, StageProgress, Status, ignore
from cryoseg.io.images.volumes import made_by, read_mask, write_mask
from cryoseg.io.outputs import lock, make_folder
from cryoseg.io.records import write_record
from cryoseg.io.web.download import DATA_CONTENT, Expected, Retry, fetch
from cryoseg.io.web.http import RemoteFile
from cryoseg.io.web.weight_files import OnBytes
from cryoseg.pipelines.data.fetch_plan import Planned

RECORD = "source.json"
_PARTLY = ".incomplete"


def fetch_planned(plan: Sequence[Planned], *, retry: Retry = Retry(), on_event: OnEvent = ignore) -> Report:
    """Download the runs of `plan_fetch`, and return one row per run.

    Complete files are kept; calling the function again continues failed runs.
    """
    jobs = {planned.name: planned for planned in plan}

    def fetch_one(name: str) -> Row:
        planned = jobs[name]
        try:
            return _fetch_one(planned, retry=retry, on_event=on_event)
        except OSError as error:
            raise OutputError(f"{planned.folder}: cannot be written ({error.strerror or error}).") from error

    return report_each(list(jobs), fetch_one, on_event=on_event)


def report_each(names: Sequence[str], work: Callable[[str], Row], *, on_event: OnEvent) -> Report:
    """Work on every name and collect the rows; an error gives a failed row."""
    rows = []
    for name in names:
        begun = time.monotonic()
        try:
            row = work(name)
        except CryosegError as error:
            row = Row(name=name, status=Status.FAILED, message=str(error))
        rows.append(replace(row, seconds=time.monotonic() - begun))
        on_event(rows[-1])
    return Report(rows=rows)


def readable_bytes(count: int) -> str:
    """Format a number of bytes as decimal gigabytes or megabytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _fetch_file(file: RemoteFile, destination: Path, *, retry: Retry, on_bytes: OnBytes) -> None:
    try:
        fetch(
            file.url,
            destination,
            expected=Expected(md5=file.md5, size=file.size if file.md5 else None),
            content=DATA_CONTENT,
            on_bytes=on_bytes,
            retry=retry,
        )
    except WeightsError as error:
        raise WeightsError(f"{error} To download it by hand, save {file.url} as {destination}.") from None


def _fetch_one(planned: Planned, *, retry: Retry, on_event: OnEvent) -> Row:
    if planned.error:
        raise InputError(planned.error)
    for text in planned.notes:
        on_event(Note(text=text))
    if planned.archive and planned.folder.is_dir():
        return _row(planned, Status.SKIPPED, message="exists already", outputs=(planned.folder,))
    if not planned.archive and all(_is_whole(planned.folder / file.path, file) for file in planned.files):
        outputs = _volumes(planned)
        return _row(planned, Status.SKIPPED, message="exists already", outputs=tuple(outputs))
    make_folder(planned.folder.parent if planned.archive else planned.folder)
    needed = sum(file.size or 0 for file in planned.files if _present(planned, file) is None)
    free = shutil.disk_usage(planned.folder.parent).free
    if needed > free:
        raise InputError(
            f"{planned.folder}: {readable_bytes(needed)} are needed and {readable_bytes(free)} are free. "
            "Free some space, or give another folder with --output-dir."
        )
    meter = _Meter(planned, on_event)
    for file in planned.files:
        destination = _destination(planned, file)
        if _present(planned, file) is None:
            with lock(destination, on_wait=meter.wait):
                # The process that held the lock may have downloaded the file.
                if _present(planned, file) is None:
                    _fetch_file(file, destination, retry=retry, on_bytes=meter.on_bytes)
        meter.finish(file)
    if planned.archive:
        folder = _unpack(planned, _destination(planned, planned.files[0]))
        return _row(planned, Status.DONE, outputs=(folder,))
    for root in _zarr_roots(planned):
        partly = planned.folder / f"{root}{_PARTLY}"
        if partly.is_dir():
            partly.replace(planned.folder / root)
    outputs = _volumes(planned)
    record = {"version": __version__, "name": planned.name, "files": planned.files}
    write_record(planned.folder / RECORD, record, overwrite=True)
    return _row(planned, Status.DONE, outputs=tuple(outputs))


def _row(planned: Planned, status: Status, *, outputs: tuple[Path, ...], message: str = "") -> Row:
    return Row(
        name=planned.name,
        status=status,
        columns={"files": str(len(planned.files)), "size": readable_bytes(planned.size)},
        outputs=outputs,
        message=message or str(planned.folder),
    )


def _zarr_root(file: RemoteFile) -> str | None:
    """Return the .zarr folder of a file, relative to its run; None for a single file."""
    head, separator, _ = file.path.partition(".zarr/")
    return f"{head}.zarr" if separator else None


def _destination(planned: Planned, file: RemoteFile) -> Path:
    if planned.archive:
        return planned.folder.parent / file.path
    # Missing chunks are read as zeros, so the folder gets its final name when it is complete.
    if root := _zarr_root(file):
        return planned.folder / f"{root}{_PARTLY}" / file.path.removeprefix(f"{root}/")
    return planned.folder / file.path


def _present(planned: Planned, file: RemoteFile) -> Path | None:
    """Return the path of a complete file, if it was downloaded."""
    for path in (planned.folder / file.path, _destination(planned, file)):
        if _is_whole(path, file):
            return path
    return None


def _is_whole(path: Path, file: RemoteFile) -> bool:
    # A file gets its name when it is complete. Only sizes that come with a digest are exact.
    return path.is_file() and (file.md5 is None or file.size == path.stat().st_size)


def _zarr_roots(planned: Planned) -> list[str]:
    return list(dict.fromkeys(root for file in planned.files if (root := _zarr_root(file))))


def _volumes(planned: Planned) -> list[Path]:
    """Return the downloaded files of a run, each OME-Zarr folder once."""
    single = [file.path for file in planned.files if _zarr_root(file) is None]
    found = [planned.folder / path for path in (*_zarr_roots(planned), *single)]
    return [*found, _join(planned)] if planned.join_masks else found


def _unpack(planned: Planned, archive: Path) -> Path:
    """Unpack an archive beside it, and remove it afterwards."""
    partly = planned.folder.with_name(planned.folder.name + _PARTLY)
    shutil.rmtree(partly, ignore_errors=True)
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(partly, filter="data")
    except (tarfile.TarError, EOFError, ValueError) as error:
        archive.unlink()
        raise InputError(
            f"{archive}: is damaged ({error}) and was removed. Run the same command again."
        ) from error
    entries = list(partly.iterdir())
    # The archive of 10017 holds one folder 10017.
    is_wrapped = [entry.name for entry in entries] == [planned.folder.name] and entries[0].is_dir()
    (entries[0] if is_wrapped else partly).replace(planned.folder)
    shutil.rmtree(partly, ignore_errors=True)
    archive.unlink()
    return planned.folder


def _join(planned: Planned) -> Path:
    """Write the union of the masks of all annotations as the target mask."""
    target = planned.folder / "target_mask" / f"{planned.folder.name}_target_mask.mrc"
    if target.exists():
        return target
    masks = [read_mask(planned.folder / file.path) for file in planned.files if "annotations/" in file.path]
    first, *others = masks
    for other in others:
        if other.data.shape != first.data.shape:
            raise InputError(f"{other.source}: has another shape than {first.source}. List only one of them.")
    union = np.zeros(first.data.shape, np.bool_)
    for mask in masks:
        for z, image in enumerate(mask.data):
            union[z] |= image > 0
    write_mask(target, union, first.geometry, label=made_by("data fetch"))
    return target


class _Meter:
    """Progress of the download of all files of one run."""

    def __init__(self, planned: Planned, on_event: OnEvent) -> None:
        self._planned = planned
        self._finished = 0
        self._on_event = on_event
        self._report = report_megabytes(planned.name, "download", on_event)

    def wait(self) -> None:
        self._on_event(Note(text=f"{self._planned.name}: another process is downloading it; waiting."))

    def on_bytes(self, done: int, total: int) -> None:
        self._report(self._finished + done, max(self._planned.size, self._finished + total))

    def finish(self, file: RemoteFile) -> None:
        self._finished += file.size or 0


def report_megabytes(name: str, stage: str, on_event: OnEvent) -> OnBytes:
    """Return a receiver of numbers of bytes that reports the progress once per megabyte."""
    last = -1

    def report(done: int, total: int) -> None:
        nonlocal last
        megabytes = done // 10**6
        if megabytes != last or done == total:
            last = megabytes
            on_event(StageProgress(name=name, stage=stage, done=megabytes, total=total // 10**6, unit="MB"))

    return report
