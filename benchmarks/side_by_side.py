"""CPU seconds and peak memory of cryoseg beside other programs on the same files, one thread, in one run.

    python benchmarks/side_by_side.py MICROGRAPH --membrain ENV/bin/python --topaz ENV/bin/topaz

The other programs are no part of this project. Install each in an environment of its own with
`pip install membrain-seg` and `pip install topaz-em`. MemBrain-seg gets random weights, which cost as much as
trained ones; Topaz uses its own weights. Whole processes are measured, the programs in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mrcfile
import numpy as np

from cryoseg.io.images.micrographs import read_micrograph

SHAPE = (64, 160, 160)
VOXEL_SIZE = 10.0
DIAMETER_PX = 102
TOPAZ_SCALE = 8
MEMBRAIN_WEIGHTS = """
import sys, pytorch_lightning
from membrain_seg.segmentation.networks.inference_unet import PreprocessedSemanticSegmentationUnet
trainer = pytorch_lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
trainer.strategy.connect(PreprocessedSemanticSegmentationUnet())
trainer.save_checkpoint(sys.argv[1])
"""
Figures = tuple[float, float]  # CPU seconds, GiB


def measure(commands: list[list[str]]) -> Figures:
    """Run commands one after the other; return their CPU seconds and the highest peak memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    seconds, peak = 0.0, 0.0
    for command in commands:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"This command failed: {' '.join(command)}")
        seconds += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 2**20)
    return seconds, peak


def membranes(folder: Path, python: str) -> dict[str, list[list[str]]]:
    """Return the commands of every program for a small tomogram."""
    tomogram, weights = folder / "tomogram.mrc", folder / "membrain.ckpt"
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    with mrcfile.new(tomogram, noise) as file:
        file.voxel_size = VOXEL_SIZE
        file.set_volume()
    subprocess.run([python, "-c", MEMBRAIN_WEIGHTS, str(weights)], check=True)
    membrain = [str(Path(python).with_name("membrain")), "segment", "--tomogram-path", str(tomogram)]
    membrain += ["--ckpt-path", str(weights), "--out-folder", str(folder / "other")]
    own = [sys.executable, "-m", "cryoseg", "segment", str(tomogram), "--overwrite", "--output-dir"]
    return {
        "cryoseg segment": [[*own, str(folder / "own")]],
        "MemBrain-seg, one pass": [[*membrain, "--no-test-time-augmentation"]],
    }


def particles(folder: Path, topaz: str, source: Path) -> dict[str, list[list[str]]]:
    """Return the commands of every program for a micrograph."""
    micrograph = folder / "micrograph.mrc"
    with mrcfile.new(micrograph, read_micrograph(source).data.astype(np.float32)):
        pass
    own = [sys.executable, "-m", "cryoseg", "pick", str(micrograph), "--overwrite", "--output-dir"]
    own += [str(folder / "own"), "--particle-diameter-px", str(DIAMETER_PX)]
    small = folder / "small"
    found, shrunk = str(folder / "topaz.txt"), str(small / micrograph.name)
    radius = str(round(DIAMETER_PX / 2 / TOPAZ_SCALE))
    return {
        "cryoseg pick": [own],
        "Topaz, preprocess and extract": [
            [topaz, "preprocess", "-s", str(TOPAZ_SCALE), "-d", "-1", "-o", str(small), str(micrograph)],
            [topaz, "extract", "-r", radius, "-d", "-1", "-x", str(TOPAZ_SCALE), "-o", found, shrunk],
        ],
    }


def main() -> None:
    """Measure the programs in turn and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("micrograph", type=Path)
    parser.add_argument("--membrain", help="the Python of an environment with membrain-seg")
    parser.add_argument("--topaz", help="the program topaz")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    print(f"load before the measurement: {os.getloadavg()[0]:.1f}\n")
    print("| work | CPU s | peak memory | CPU s in relation to cryoseg |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups = []
        if arguments.membrain:
            groups.append(membranes(folder, arguments.membrain))
        if arguments.topaz:
            groups.append(particles(folder, arguments.topaz, arguments.micrograph))
        for group in groups:
            figures: dict[str, list[Figures]] = {work: [] for work in group}
            for _ in range(arguments.repeats):
                for work, commands in group.items():
                    figures[work].append(measure(commands))
            own = next(iter(figures.values()))
            for work, runs in figures.items():
                seconds = statistics.median(one[0] for one in runs)
                ratio = statistics.median(one[0] / mine[0] for one, mine in zip(runs, own, strict=True))
                peak = max(one[1] for one in runs)
                print(f"| {work} | {seconds:.1f} | {peak:.2f} GiB | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
