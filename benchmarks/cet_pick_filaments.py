"""Filaments: train on one microtubule, trace the other, both ways round.

    python benchmarks/cet_pick_filaments.py DATA/microtubule_tomogram [--set steps=140 ...]

Labels: the polyline through the axis points of one file, resampled every 8 nm. Scored on the
other: the share of its axis (every 4 nm within the points' span) with a pick within 4 voxels, and
the share of picks within 4 voxels of the axis, its end segments extended.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

VOXEL_NM = 1.052
FILES = ("13pf_MT.tif", "14pf_MT.tif")
WIDTH_ANGSTROM = 250.0
NEAR_VOXELS = 4.0


def resample_polyline(points, *, spacing):
    """Points (m, 3) every `spacing` along the lines through (n, 3), both ends included."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(2, round(length[-1] / spacing) + 1)
    stations = np.linspace(0, length[-1], count)
    return np.column_stack([np.interp(stations, length, points[:, axis]) for axis in range(3)])


def to_segments(points, axis):
    """Distance of points from a polyline."""
    best = np.full(len(points), np.inf)
    for start, end in pairwise(axis):
        along = end - start
        share = np.clip((points - start) @ along / (along @ along), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - (start + share[:, None] * along), axis=1))
    return best


def main():
    """Both ways round."""
    import tifffile
    import torch
    from cet_pick_phantom import cpu_seconds

    from cryoseg.config.cet_pick import CetPickConfig, Specimen
    from cryoseg.methods.cet_pick.train import LabeledTomogram, train_detector
    from cryoseg.pipelines.pick.tomogram import pick_tomogram
    from cryoseg.types import Geometry, Tomogram

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", type=int, nargs="+", default=[0, 1], help="index of the training file")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    settings = {name: ast.literal_eval(value) for name, value in (p.split("=", 1) for p in arguments.set)}
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    axes, tomograms = {}, {}
    with (arguments.folder / "axis_points.csv").open() as stream:
        for row in csv.DictReader(stream):
            point = [float(row[key]) / VOXEL_NM for key in ("z_nm", "y_nm", "x_nm")]
            axes.setdefault(row["volume"], []).append(point)
    for name in FILES:
        axes[name] = np.array(axes[name])
        tomograms[name] = Tomogram(
            data=tifffile.imread(arguments.folder / name),
            geometry=Geometry(voxel_size=(VOXEL_NM * 10,) * 3),
            source=Path(name),
        )
    for seed in arguments.seeds:
        for way in arguments.ways:
            train, test = FILES[way], FILES[1 - way]
            begun = cpu_seconds()
            labels = resample_polyline(axes[train], spacing=8 / VOXEL_NM)
            from dataclasses import replace

            config = replace(CetPickConfig.preset(Specimen.FILAMENT, WIDTH_ANGSTROM), seed=seed, **settings)
            with tempfile.TemporaryDirectory() as run:
                trained = train_detector(
                    [LabeledTomogram(tomogram=tomograms[train], labels=labels)], config, Path(run)
                )
            result = pick_tomogram(tomograms[test], trained.detector)
            picks, axis = result.picks.centers, axes[test]
            stations = resample_polyline(axis, spacing=4 / VOXEL_NM)
            reach = np.array(
                [np.linalg.norm(picks - station, axis=1).min(initial=np.inf) for station in stations]
            )
            ends = [axis[0] + 10 * (axis[0] - axis[1]), axis[-1] + 10 * (axis[-1] - axis[-2])]
            off = to_segments(picks, np.vstack([ends[0], axis, ends[1]]))
            metrics = {
                "train": train,
                "test": test,
                "seed": seed,
                "labels": len(labels),
                "axis covered": float((reach <= NEAR_VOXELS).mean()),
                "picks on axis": float((off <= NEAR_VOXELS).mean()) if len(picks) else 0.0,
                "picks": len(picks),
                "filaments": 0 if not len(picks) else len(set(result.picks.tracks)),
                "candidates above": int((result.candidates.scores > result.threshold).sum()),
                "median off axis": float(np.median(off)) if len(picks) else None,
                "threshold": result.threshold,
                "cpu_s": cpu_seconds() - begun,
                "scores": [round(float(s), 2) for s in result.candidates.scores[:30]],
            }
            print(json.dumps(metrics), flush=True)


if __name__ == "__main__":
    main()
