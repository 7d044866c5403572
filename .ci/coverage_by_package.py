"""Print the coverage of every package, one row each, from the `.coverage` file of the current folder.

`pytest --cov --cov-report= && python .ci/coverage_by_package.py 85` exits with status 1 where the share of
branches, or that of lines and branches together, is below 85 per cent in one of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("config", "core", "io", "view", "simulate", "methods", "pipelines", "cli")


def main(least: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", report], check=True)
        files = json.loads(report.read_text())["files"]
    low = []
    print(f"{'package':<17} {'lines':>16} {'branches':>16} {'together':>9}")
    for package in PACKAGES:
        totals = [entry["summary"] for name, entry in files.items() if f"cryoseg/{package}/" in name]
        lines, all_lines, branches, all_branches = (
            sum(summary[key] for summary in totals)
            for key in ("covered_lines", "num_statements", "covered_branches", "num_branches")
        )
        if not all_branches:
            sys.exit(f"No figures of cryoseg.{package}: run `pytest --cov` first.")
        branch_share = 100 * branches / all_branches
        together = 100 * (lines + branches) / (all_lines + all_branches)
        print(
            f"cryoseg.{package:<9} {lines:>5}/{all_lines:<5} {100 * lines / all_lines:.0f} %"
            f" {branches:>5}/{all_branches:<5} {branch_share:.0f} % {together:7.1f} %"
        )
        if min(branch_share, together) < least:
            low.append(f"cryoseg.{package}")
    if low:
        print(f"Below {least:g} %: {', '.join(low)}")
    return bool(low)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
