"""Median seconds of five `cryoseg --help`, each in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import time

if __name__ == "__main__":
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(["cryoseg", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    print(f"cryoseg --help: median {statistics.median(seconds):.2f} s of {[round(s, 2) for s in seconds]}")
