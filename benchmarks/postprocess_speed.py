"""Time and peak memory of both post-processing steps on a mask of the size of a whole tomogram.

    python benchmarks/postprocess_speed.py [--shape 500 928 960]

The mask is simulated: thin closed shells (membranes) and a few thousand small blobs (noise).
"""

from __future__ import annotations

import argparse
import resource
import time

import cc3d
import numpy as np

from cryoseg.core.masks.postprocess import remove_bridges, remove_thin_noise


def simulated_mask(shape: tuple[int, int, int], *, shells: int, blobs: int, seed: int) -> np.ndarray:
    """Shells three voxels thick and small boxes, (z, y, x) bool."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(shells):
        radius = rng.uniform(20, min(shape) / 3)
        center = rng.uniform(0, shape)
        low = np.maximum(center - radius - 3, 0).astype(int)
        high = np.minimum(center + radius + 3, shape).astype(int)
        z, y, x = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        squared = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2
        shell = (squared > (radius - 1.5) ** 2) & (squared < (radius + 1.5) ** 2)
        mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]] |= shell
    for _ in range(blobs):
        corner = (rng.uniform(0, 1, 3) * (np.array(shape) - 12)).astype(int)
        size = rng.integers(2, 12, 3)
        mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    return mask


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(500, 928, 960))
    parser.add_argument("--shells", type=int, default=40)
    parser.add_argument("--blobs", type=int, default=4000)
    parser.add_argument("--count", action="store_true", help="Count the components (needs more memory).")
    options = parser.parse_args()
    mask = simulated_mask(tuple(options.shape), shells=options.shells, blobs=options.blobs, seed=0)
    print(f"mask {mask.shape}, {mask.mean():.2%} marked, {mask.nbytes / 2**30:.2f} GiB")
    print(f"peak before {peak_gib():.2f} GiB")

    begun = time.perf_counter()
    filtered = remove_thin_noise(mask, min_slices=10)
    print(f"thin-noise {time.perf_counter() - begun:.1f} s, {filtered.mean():.2%}, peak {peak_gib():.2f} GiB")
    begun = time.perf_counter()
    cut = remove_bridges(filtered, max_bridge_length=5)
    print(f"bridges {time.perf_counter() - begun:.1f} s, {cut.mean():.2%} stay, peak {peak_gib():.2f} GiB")
    if options.count:
        begun = time.perf_counter()
        _, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
        print(f"{count} components; labeling the whole volume at once {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
