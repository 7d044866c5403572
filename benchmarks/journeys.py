"""List the files of this repository that a voxel, a pixel and a training sample pass through.

    python benchmarks/journeys.py

A file is on the way if one of its functions receives the image, or what was made from it, and returns or
writes an image, or is the loss of a training; functions that only look at it, such as checks of the values,
are not. The lists in
docs/architecture.md are made with this script, in the order in which the files are reached first.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import cryoseg
from cryoseg.cli.app import app

ROOT = Path(cryoseg.__file__).parent
SAMPLES = ROOT / "samples"
# Smaller arrays are lists of points, thresholds and weights of layers.
LEAST_SIZE = 24 * 24
# Functions that look at the image or at its labels, measurements such as that of the width of the particles,
# and validation: no value of the image passes through.
ASIDE = {
    *("planned_shape", "find_blank", "find_blank_pixels", "particle_skewness", "search_scale"),
    *("micrograph_logits", "nearest"),
}


def is_image(value: Any, depth: int = 0) -> bool:
    """Whether a value is an array or a tensor of at least two dimensions, or holds one."""
    if isinstance(value, np.ndarray) or type(value).__module__.startswith("torch"):
        shape = getattr(value, "shape", None)
        return shape is not None and len(shape) >= 2 and int(np.prod(shape)) >= LEAST_SIZE
    if depth < 2 and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(is_image(part, depth + 1) for part in vars(value).values())
    if depth < 2 and isinstance(value, list | tuple):
        return any(is_image(part, depth + 1) for part in value[:3])
    return False


class Journey:
    """Collects the files while a command runs."""

    def __init__(self) -> None:
        self.functions: dict[str, list[str]] = {}
        self._aside: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """Follow a call, a return or a yield, as `sys.setprofile` reports them."""
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(str(ROOT)):
            return
        if self._aside is not None:
            if event == "return" and frame is self._aside:
                self._aside = None
            return
        if event == "call" and code.co_name in ASIDE:
            self._aside = frame
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        received = any(is_image(frame.f_locals.get(name)) for name in names)
        is_end = event == "call" and received and (code.co_name.startswith("write") or "loss" in code.co_name)
        is_reading = code.co_name.lstrip("_").startswith("read")
        if is_end or (event == "return" and (received or is_reading) and is_image(value)):
            file = Path(code.co_filename).relative_to(ROOT).as_posix()
            functions = self.functions.setdefault(file, [])
            if code.co_qualname not in functions:
                functions.append(code.co_qualname)


def follow(run: Callable[[], object]) -> dict[str, list[str]]:
    """Run a command and give the files on the way, with the functions of each."""
    journey = Journey()
    sys.setprofile(journey)
    try:
        run()
    finally:
        sys.setprofile(None)
    return journey.functions


def command(*words: object) -> Callable[[], object]:
    """A call of the program that comes back."""

    def run() -> None:
        try:
            app([str(word) for word in words], standalone_mode=False)
        except SystemExit as end:
            if end.code:
                raise

    return run


def main() -> None:
    """Print the three lists."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        tomogram, micrograph = SAMPLES / "sample_0000_tomogram.mrc", SAMPLES / "particles_0002_micrograph.mrc"
        simulated = folder / "simulated"
        command("simulate", "micrographs", "-n", 3, "--shape", "256x256", "-o", simulated, "-q")()
        journeys = {
            "segment": command(
                *("segment", tomogram, "--model", "membrane-tiny", "--post-process", "-o", folder, "-q")
            ),
            "pick": command(
                *("pick", micrograph, "--particle-diameter", 180, "-o", folder, "-q"),
                *("--no-preview", "--no-store-mask"),
            ),
            "train finetune": command(
                *("train", "finetune", simulated, "--steps", 2, "--batch", 1, "-o", folder / "run", "-q")
            ),
        }
        for name, run in journeys.items():
            found = follow(run)
            print(f"{name}: {len(found)} files")
            for number, (file, functions) in enumerate(found.items(), start=1):
                print(f"{number:3}. {file}: {', '.join(functions)}")


if __name__ == "__main__":
    main()
