"""The JSON beside everything simulated: what it was drawn with, and the mark that it is finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.invocation import note_written, recorded_options
from cryoseg.config.simulate import SimulateConfig
from cryoseg.config.simulate_micrographs import SimulateMicrographsConfig
from cryoseg.config.simulate_phantoms import PhantomConfig
from cryoseg.errors import OutputError
from cryoseg.io.outputs import atomic_text

Config = SimulateConfig | SimulateMicrographsConfig | PhantomConfig


def begin_record(command: str, config: Config, index: int) -> dict[str, Any]:
    """What every record begins with.

    Parameters
    ----------
    command
        Of `cryoseg simulate`.
    config, index
        Decide everything in the files.
    """
    return {
        "software": f"cryoseg {__version__}",
        "command": f"simulate {command}",
        "config": asdict(config),
        "index": index,
        **recorded_options(f"simulate {command}", {"count": 1, "first": index}),
    }


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record in place of an older one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with atomic_text(path, overwrite=True) as stream:
        stream.write(json.dumps(record, indent=1) + "\n")
    note_written(path)


def finished_record(
    config: Config, index: int, files: Iterable[Path], record_path: Path
) -> dict[str, Any] | None:
    """The record of what is there already; None if any of its files is missing or it cannot be read.

    Raises
    ------
    OutputError
        If it was made with other settings.
    """
    if not all(path.is_file() for path in (*files, record_path)):
        return None
    try:
        record: dict[str, Any] = json.loads(record_path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    wanted = json.loads(json.dumps(asdict(config)))
    if record.get("config") != wanted or record.get("index") != index:
        raise OutputError(
            f"{record_path}: made with other settings; choose another folder or pass --overwrite."
        )
    return record
