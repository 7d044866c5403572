"""Time and peak memory of `cryoseg measure` on a mask of many vesicles.

python benchmarks/measure_speed.py [--shape 500 928 960] [--components 300] [--among 300]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from cryoseg.config.measure import MeasureConfig
from cryoseg.io.images.volumes import made_by, write_mask
from cryoseg.pipelines.measure.files import measure_files
from cryoseg.types import Geometry


def vesicles(shape: tuple[int, int, int], count: int, among: int, thickness: float = 5.0) -> np.ndarray:
    """Return a mask of `count` of `among` spherical shells on a grid, with radii from 12 to 45 voxels."""
    rng = np.random.default_rng(0)
    mask = np.zeros(shape, np.int8)
    cells = np.floor(np.array(shape) / np.cbrt(np.prod(shape) / (1.5 * among))).astype(int).clip(1)
    size = np.array(shape) / cells
    places = rng.permutation(np.stack(np.meshgrid(*map(np.arange, cells)), -1).reshape(-1, 3))[:among]
    radii = rng.uniform(12, min(45, size.min() / 2 - thickness - 2), len(places))
    for place, radius in zip(places[:count], radii, strict=False):
        center = (place + 0.5) * size
        low = np.floor(center - radius - thickness).astype(int).clip(0)
        high = np.ceil(center + radius + thickness).astype(int) + 1
        box = tuple(map(slice, low, high))
        axes = np.ogrid[tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, shape, strict=True))]
        distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True)))
        noise = rng.normal(0, 0.5, distance.shape)
        mask[box] |= np.abs(distance + noise - radius) < thickness / 2
    return mask


def main() -> None:
    """Measure a mask of many vesicles and print time and memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=[500, 928, 960])
    parser.add_argument("--components", type=int, default=300)
    parser.add_argument("--among", type=int, help="number of vesicles for which there is room")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "vesicles.mrc"
        mask = vesicles(tuple(options.shape), options.components, options.among or options.components)
        write_mask(path, mask, Geometry(voxel_size=(10.0, 10.0, 10.0)), label=made_by("benchmark"))
        del mask
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        start, cpu = time.perf_counter(), time.process_time()
        report = measure_files([path], Path(name), MeasureConfig())
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(report.rows[0].columns)
        print(f"{seconds:.0f} s, {cpu:.0f} s of processor, peak memory {peak:.1f} GiB ({before:.1f} before)")


if __name__ == "__main__":
    main()
