"""Seconds of `cryoseg segment` on the bundled sample: alone, and two at once that share all processors.

    python benchmarks/contention.py
    python benchmarks/contention.py --spin 200 2000 --repeats 3

The threads of OpenMP that wait at a barrier may take the processor from other processes. Each value of
GOMP_SPINCOUNT is measured alone and in company, in turn. The load of the machine is printed, because other
processes change all figures. The exit status is 1 if the median ratio of the default value is above 2.3.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryoseg.machine import SHORT_WAIT, processors

MOST = 2.3  # times the seconds of one run


def run(count: int, spin: int) -> tuple[float, float]:
    """Return the elapsed seconds of runs at once, and the CPU seconds of each."""
    sample = Path(__file__).parent.parent / "src/cryoseg/samples/sample_0000_tomogram.mrc"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["GOMP_SPINCOUNT"] = str(spin)
    used, begun = os.times(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cryoseg", "segment", str(sample), "-o"]
        running = [
            subprocess.Popen(
                [*command, f"{folder}/{number}"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(count)
        ]
        statuses = [one.wait() for one in running]
        if any(statuses):
            raise SystemExit("cryoseg segment failed.")
    after = os.times()
    cpu = after.children_user + after.children_system - used.children_user - used.children_system
    return time.perf_counter() - begun, cpu / count


def main() -> None:
    """Measure and print one line per setting."""
    default = int(SHORT_WAIT["GOMP_SPINCOUNT"])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spin", type=int, nargs="+", default=[default], help="values of GOMP_SPINCOUNT")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{processors()} processors; load before the measurement: {load}")
    found: dict[int, list[tuple[float, float, float, float]]] = {spin: [] for spin in arguments.spin}
    for _ in range(arguments.repeats):
        for spin in arguments.spin:
            found[spin].append((*run(1, spin), *run(2, spin)))
    worst = False
    for spin, runs in found.items():
        alone, cpu_alone, both, cpu_both = (statistics.median(column) for column in zip(*runs, strict=True))
        ratio = statistics.median(one[2] / one[0] for one in runs)
        print(
            f"GOMP_SPINCOUNT={spin}: alone {alone:.1f} s ({cpu_alone:.1f} CPU s); two at once {both:.1f} s "
            f"({cpu_both:.1f} CPU s each); ratio {ratio:.2f}",
            flush=True,
        )
        worst |= spin == default and ratio > MOST
    sys.exit(int(worst))


if __name__ == "__main__":
    main()
