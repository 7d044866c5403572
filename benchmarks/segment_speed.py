"""Seconds and peak memory of `cryoseg segment` on a volume of noise, in a process of its own.

    python benchmarks/segment_speed.py                      # 104 x 512 x 512
    python benchmarks/segment_speed.py --shape 500x928x960

Noise costs what a tomogram costs: the network's work does not depend on what it sees.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from cryoseg.io.images.volumes import write_mask
from cryoseg.types import Geometry


class Noise:
    """Slices of int8 noise, made when they are asked for."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    def __getitem__(self, z: int) -> np.ndarray:
        """Slice z, (y, x) int8."""
        return np.random.default_rng(z).integers(-60, 60, self.shape[1:]).astype(np.int8)

    def __len__(self) -> int:
        return self.shape[0]


def main() -> None:
    """Measure one shape and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="104x512x512", help="ZxYxX")
    parser.add_argument("--model", default="membrane-tiny")
    arguments = parser.parse_args()
    depth, height, width = map(int, arguments.shape.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "noise.mrc"
        geometry = Geometry(voxel_size=(12.0, 12.0, 12.0))
        write_mask(source, Noise((depth, height, width)), geometry, label="noise")
        command = [
            *(sys.executable, "-m", "cryoseg", "segment", str(source), "--model", arguments.model),
            *("--post-process", "-o", folder),
        ]
        subprocess.run(command, check=True)
        record = json.loads((Path(folder) / "noise_membrane.json").read_text())
    seconds = record["seconds"]["segment"] + record["seconds"]["write"]  # the stages are in the former
    peak = record["peak_memory_bytes"] / 2**30
    print(f"{arguments.shape} {record['model']['name']}: {seconds:.0f} s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
