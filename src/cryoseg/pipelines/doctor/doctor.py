"""Check the installation and the computer.

A failed check does not end the others. The checks that need torch import it, so that a torch that cannot
be imported is reported.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.errors import CryosegError
from cryoseg.io.images.memory import available_memory

# Module of each required package; each is imported, since an installed package may not work.
PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "sam2": "sam2",
    "segment-anything": "segment_anything",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-image": "skimage",
    "mrcfile": "mrcfile",
    "safetensors": "safetensors",
}
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
LEAST_MEMORY_GB = 4.0  # a tomogram of 512 x 512 x 256 with its logits and the network
LEAST_DISK_GB = 2.0


class Verdict(StrEnum):
    """Result of a check; `wrong` makes the exit status 1."""

    OK = "ok"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    name
        Name of the check.
    found
        Version, device or state that was found.
    advice
        Advice to the user; empty if none is needed.
    """

    name: str
    verdict: Verdict = Verdict.OK
    found: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Results of all checks."""

    checks: tuple[Check, ...]

    @property
    def is_well(self) -> bool:
        """Whether no check is wrong; doubtful ones are allowed."""
        return all(check.verdict is not Verdict.WRONG for check in self.checks)


def examine(
    *, device: str = "auto", checkpoints_dir: Path | None = None, self_test: bool = True
) -> Diagnosis:
    """Check versions, devices, memory, weights and folders, and segment a sample.

    Parameters
    ----------
    device
        Device of the self-test, as in `select_device`.
    checkpoints_dir
        Folder that is searched for weights first.
    self_test
        Whether to run the self-test, which takes about ten seconds.
    """
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("machine", _machine),
        ("devices", lambda: _devices(device)),
        ("weights", lambda: _weights(checkpoints_dir)),
        ("folders", lambda: _folders(checkpoints_dir)),
    ]
    if self_test:
        parts.append(("self test", lambda: _self_test(device, checkpoints_dir)))
    checks: list[Check] = []
    for name, part in parts:
        try:
            checks.extend(part())
        except CryosegError as error:
            checks.append(Check(name=name, verdict=Verdict.WRONG, found="failed", advice=str(error)))
        except Exception as error:  # a broken package may raise anything
            checks.append(
                Check(
                    name=name,
                    verdict=Verdict.WRONG,
                    found=f"{type(error).__name__}: {error}",
                    advice="Install cryoseg in a new environment; if the error remains, report this line.",
                )
            )
    return Diagnosis(checks=tuple(checks))


def _python() -> Iterator[Check]:
    yield Check(name="cryoseg", found=f"{__version__}, {Path(__file__).parents[1]}")
    found = f"{platform.python_version()}, {sys.executable}"
    version = sys.version_info[:2]
    span = f"{OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} to {NEWEST_PYTHON[0]}.{NEWEST_PYTHON[1]}"
    if version < OLDEST_PYTHON:
        yield Check(name="python", verdict=Verdict.WRONG, found=found, advice=f"Use Python {span}.")
    elif version > NEWEST_PYTHON:
        yield Check(name="python", verdict=Verdict.DOUBTFUL, found=found, advice=f"Tested with {span}.")
    else:
        yield Check(name="python", found=found)
    yield Check(name="system", found=platform.platform())


def _packages() -> Iterator[Check]:
    wanted = _requirements()
    for package, module in PACKAGES.items():
        try:
            version = metadata.version(package)
            importlib.import_module(module)
        except metadata.PackageNotFoundError:
            yield Check(
                name=package,
                verdict=Verdict.WRONG,
                found="not installed",
                advice=f"pip install '{package}{wanted.get(package, '')}'",
            )
            continue
        except Exception as error:  # a missing or incompatible library raises OSError, among others
            yield Check(
                name=package,
                verdict=Verdict.WRONG,
                found=f"cannot be imported ({type(error).__name__}: {error})",
                advice=f"pip install --force-reinstall '{package}{wanted.get(package, '')}'",
            )
            continue
        limit = wanted.get(package)
        if limit is not None and not limit.contains(version, prereleases=True):
            yield Check(
                name=package,
                verdict=Verdict.WRONG,
                found=version,
                advice=f"cryoseg needs {package}{limit}: pip install '{package}{limit}'",
            )
        else:
            yield Check(name=package, found=version)


def _requirements() -> dict[str, Any]:
    """Return the required versions by package; empty if cryoseg is not installed as a package."""
    from packaging.requirements import Requirement

    try:
        texts = metadata.requires("cryoseg") or []
    except metadata.PackageNotFoundError:
        return {}
    parsed = [Requirement(text) for text in texts]
    return {one.name: one.specifier for one in parsed if one.marker is None}


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import torch

    threads = torch.get_num_threads()
    limit = os.environ.get("OMP_NUM_THREADS")
    slow = threads < cores and limit is not None
    yield Check(
        name="processor",
        verdict=Verdict.DOUBTFUL if slow else Verdict.OK,
        found=f"{cores} cores, {threads} threads" + (f" (OMP_NUM_THREADS={limit})" if limit else ""),
        advice="Unset OMP_NUM_THREADS to use every core." if slow else "",
    )
    free = available_memory()
    if free is None:
        yield Check(name="memory", verdict=Verdict.DOUBTFUL, found="this system does not report it")
        return
    total = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = f" of {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f}"
    short = free / 1e9 < LEAST_MEMORY_GB
    yield Check(
        name="memory",
        verdict=Verdict.DOUBTFUL if short else Verdict.OK,
        found=f"{free / 1e9:.1f}{total} GB free for this process",
        advice="This suffices for small tomograms only; bin larger ones first." if short else "",
    )


def _devices(device: str) -> Iterator[Check]:
    from cryoseg.methods.device import describe, list_devices, overlooked_device, select_device

    for name, found in list_devices().items():
        yield Check(name=name, found=found)
    if overlooked := overlooked_device():
        found, advice = overlooked
        yield Check(name="GPU", verdict=Verdict.DOUBTFUL, found=found, advice=advice)
    yield Check(name="device", found=f"{describe(select_device(device))}, by --device {device}")


def _weights(checkpoints_dir: Path | None) -> Iterator[Check]:
    from cryoseg.pipelines.data.weights import list_weights, verify_weights

    missing = []
    for row in list_weights(checkpoints_dir=checkpoints_dir):
        if row.found:
            broken = ""
            if row.weights.bundled:
                report = verify_weights([row.weights.name], checkpoints_dir=checkpoints_dir)
                broken = report.rows[0].message if report.exit_status else ""
            yield Check(
                name=row.weights.name,
                verdict=Verdict.WRONG if broken else Verdict.OK,
                found=f"{row.path} ({row.hash_status})",
                advice=broken,
            )
        elif row.weights.bundled:
            yield Check(
                name=row.weights.name,
                verdict=Verdict.WRONG,
                found=f"missing: {row.path}",
                advice="This file is part of the package; install cryoseg again.",
            )
        else:
            missing.append(row.weights.name)
    if missing:
        yield Check(name="other weights", found=f"not installed: {', '.join(missing)}")


def _folders(checkpoints_dir: Path | None) -> Iterator[Check]:
    from cryoseg.methods.weights import download_folder

    folders = {
        "current folder": (Path.cwd(), Verdict.DOUBTFUL),
        "temporary files": (Path(tempfile.gettempdir()), Verdict.WRONG),
    }
    try:
        folders["weights folder"] = (download_folder(checkpoints_dir=checkpoints_dir), Verdict.DOUBTFUL)
    except CryosegError as error:
        advice = "Set HOME, or set CRYOSEG_CHECKPOINTS to a folder for downloaded weights."
        yield Check(name="weights folder", verdict=Verdict.DOUBTFUL, found=str(error), advice=advice)
    for name, (folder, verdict) in folders.items():
        place = folder
        while not os.access(place, os.F_OK) and place != place.parent:
            place = place.parent
        if not os.access(place, os.W_OK | os.X_OK) or not place.is_dir():
            advice = "Make it writable, or choose another: -o for outputs, TMPDIR, CRYOSEG_CHECKPOINTS."
            yield Check(name=name, verdict=verdict, found=f"{folder}: not writable", advice=advice)
            continue
        free = shutil.disk_usage(place).free / 1e9
        short = free < LEAST_DISK_GB
        yield Check(
            name=name,
            verdict=Verdict.DOUBTFUL if short else Verdict.OK,
            found=f"{folder}: writable, {free:.1f} GB free",
            advice="There is little free space; logits of a large tomogram need a gigabyte." if short else "",
        )


def _self_test(device: str, checkpoints_dir: Path | None) -> Iterator[Check]:
    from cryoseg.pipelines.doctor.self_test import LOWEST_DICE, SHARE_MARKED, SHARE_TOLERANCE, run_self_test

    test = run_self_test(device=device, checkpoints_dir=checkpoints_dir)
    found = (
        f"Dice {test.dice:.3f} (at least {LOWEST_DICE:g}), {100 * test.share_marked:.1f} % marked "
        f"({100 * SHARE_MARKED:.1f} +- {100 * SHARE_TOLERANCE:.1f}), {test.seconds:.1f} s"
    )
    if test.is_right:
        yield Check(name="self test", found=found)
        return
    yield Check(
        name="self test",
        verdict=Verdict.WRONG,
        found=found,
        advice="The result is wrong on this device. Try --device cpu, and report this output.",
    )
