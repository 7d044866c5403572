"""Time and peak memory of `cryoseg evaluate segmentation` on volumes of the size of a whole tomogram.

python benchmarks/evaluate_speed.py [--pairs 2] [--metrics overlap,near,...] [--logits]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from postprocess_speed import simulated_mask

from cryoseg.io.images.volumes import made_by, write_logits, write_mask
from cryoseg.types import Geometry


def main() -> None:
    """Write pairs, evaluate them in a process of its own, print what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(500, 928, 960))
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--metrics", default="overlap,near,components,planes,auprc")
    parser.add_argument("--logits", action="store_true", help="Predictions are logits, not masks.")
    options = parser.parse_args()
    geometry = Geometry(voxel_size=(10.0, 10.0, 10.0))
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(options.pairs):
            truth = simulated_mask(tuple(options.shape), shells=40, blobs=0, seed=pair)
            pred = np.roll(simulated_mask(tuple(options.shape), shells=40, blobs=4000, seed=pair), 1, axis=1)
            for kind in ("pred", "truth"):
                (Path(folder) / kind).mkdir(exist_ok=True)
            write_mask(Path(folder) / "truth" / f"{pair}.mrc", truth, geometry, label=made_by("benchmark"))
            path = Path(folder) / "pred" / f"{pair}.mrc"
            if options.logits:
                logits = np.where(pred, np.float32(2), np.float32(-2))
                logits += np.random.default_rng(pair).standard_normal(logits.shape, np.float32)
                write_logits(path, logits, geometry, label=made_by("benchmark"))
                del logits
            else:
                write_mask(path, pred, geometry, label=made_by("benchmark"))
            del truth, pred
        command = [sys.executable, "-c", "from cryoseg.cli.evaluate.app import app; app()", "segmentation"]
        command += [f"{folder}/pred", f"{folder}/truth", "--metrics", options.metrics]
        command += ["--logit-threshold", "0"] if options.logits else []
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{options.pairs} pairs of {options.shape}, {options.metrics}")
        print(f"{time.perf_counter() - begun:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time")
        print(f"peak {used.ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
