"""Peak memory of `cryoseg segment` against the number of slices, for both engines, in processes of their own.

    python benchmarks/memory_by_slices.py                # 32, 128 and 512 slices of 96 x 96
    python benchmarks/memory_by_slices.py --slices 32 256 --engines etsam

ETSAM runs a small network of the same structure with random weights. The float32 logits of a volume are in
memory, so that the peak grows by them; the last column is what every further slice needs beyond its logits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from segment_speed import Noise

from cryoseg.io.images.volumes import write_mask
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.types import Geometry

NANO = Path(__file__).parents[1] / "tests/conformance/sam2_nano.yaml"
LOGIT_BYTES = 4


def random_weights(folder: Path) -> Path:
    """Write random weights of the small network and return their file."""
    torch.manual_seed(0)
    path = folder / "nano.safetensors"
    save_file(
        {name: tensor.contiguous() for name, tensor in build_predictor(NANO).state_dict().items()}, path
    )
    return path


def peak(folder: Path, shape: tuple[int, int, int], options: list[str]) -> int:
    """Return the peak memory in bytes of a run on noise."""
    source = folder / "noise.mrc"
    source.unlink(missing_ok=True)
    write_mask(source, Noise(shape), Geometry(voxel_size=(12.0, 12.0, 12.0)), label="noise")
    command = [sys.executable, "-m", "cryoseg", "segment", str(source), "--overwrite", "-o", str(folder)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (record,) = folder.glob("noise*.json")
    return int(json.loads(record.read_text())["peak_memory_bytes"])


def main() -> None:
    """Measure every engine and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--engines", nargs="+", default=["membrane-tiny", "etsam"])
    arguments = parser.parse_args()
    print(f"load before the measurement: {os.getloadavg()[0]:.1f}\n")
    print("| engine | slices | peak memory | KiB per further slice beyond its logits |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"membrane-tiny": ["--model", "membrane-tiny"], "etsam": ["--sam2-config", str(NANO)]}
        for stage in (1, 2):
            options["etsam"] += [f"--stage{stage}-checkpoint", str(random_weights(folder))]
        for engine in arguments.engines:
            peaks: list[int] = []
            for depth in arguments.slices:
                shape = (depth, arguments.side, arguments.side)
                peaks.append(peak(folder, shape, options[engine]))
                growth = ""
                if len(peaks) > 1:
                    added = depth - arguments.slices[0]
                    logits = added * LOGIT_BYTES * int(np.prod(shape[1:]))
                    growth = f"{(peaks[-1] - peaks[0] - logits) / added / 2**10:.0f}"
                print(f"| {engine} | {depth} | {peaks[-1] / 2**20:.0f} MiB | {growth} |", flush=True)


if __name__ == "__main__":
    main()
