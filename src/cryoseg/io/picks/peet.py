"""Read and write motive lists of PEET: orientations and offsets of the points of an IMOD model, in its order.

Source of columns, angles and offsets, which are added to the points of the model:
FrangakisLab/ArtiaX@5c74c67, src/io/PEET/PEETParticleData.py.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, reading
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.angles import MOTL
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.imod_model import order_in_model, read_mod, write_mod
from cryoseg.io.picks.sets import PickSets
from cryoseg.io.picks.text import as_scores

HEADER = (
    *("CCC", "reserved", "reserved", "pIndex", "wedgeWT", "NA", "NA", "NA", "NA", "NA"),
    *("xOffset", "yOffset", "zOffset", "NA", "NA", "reserved"),
    *("EulerZ(1)", "EulerZ(3)", "EulerX(2)", "reserved"),
)
OFFSETS, PHI_PSI_THETA = slice(10, 13), slice(16, 19)
_BEHIND_MODEL = re.compile(r"(_peet|_initMOTL|_MOTL).*$", re.I)


def read_peet(path: Path, frame: PickFrame) -> PickSets:
    """Read a motive list, and its points from the model beside it."""
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    try:
        rows = [[float(cell) for cell in line.split(",")[: len(HEADER)]] for line in lines if line.strip()]
        table = np.array(rows, dtype=np.float64).reshape(-1, len(HEADER))
        if not np.isfinite(table).all():
            raise ValueError
    except ValueError as error:
        raise InputError(f"{path}: a motive list of PEET has 20 finite numbers in every line.") from error
    model = _model_of(path)
    (picks,) = read_mod(model, frame).values()
    if len(picks) != len(table):
        raise InputError(
            f"{path}: has {len(table)} lines, and {model.name} {len(picks)} points. Give its own model."
        )
    phi, psi, theta = table[:, PHI_PSI_THETA].T
    offsets = table[:, OFFSETS][:, ::-1]
    turned = replace(
        picks,
        scores=as_scores(table[:, 0]),
        rotations=MOTL.matrices(np.stack([phi, theta, psi], axis=1)),
        shifts=offsets if offsets.any() else None,
        source=path,
    )
    return {"": turned}


def _model_of(path: Path) -> Path:
    models = sorted(path.parent.glob("*.mod"))
    for stem in (path.stem, _BEHIND_MODEL.sub("", path.stem)):
        if path.with_name(f"{stem}.mod") in models:
            return path.with_name(f"{stem}.mod")
    if len(models) != 1:
        raise InputError(f"{path}: a motive list belongs to a model of IMOD. Put {path.stem}.mod beside it.")
    return models[0]


def write_peet(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write the points as a model of IMOD, and its motive list."""
    write_mod(path.with_suffix(PickFormat.PEET.traits.beside), sets, frame)
    (picks,) = sets.values()
    picks = picks.take(order_in_model(picks))
    table = np.zeros((len(picks), len(HEADER)))
    table[:, 0] = 1.0 if picks.scores is None else np.round(picks.scores.astype(np.float64), 5)
    table[:, 3] = np.arange(1, len(picks) + 1)
    if picks.shifts is not None:
        table[:, OFFSETS] = picks.shifts[:, ::-1]
    if picks.rotations is not None:
        phi, theta, psi = MOTL.angles(picks.rotations).T
        table[:, PHI_PSI_THETA] = np.stack([phi, psi, theta], axis=1)
    with atomic_text(path, overwrite=True) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows([f"{value:.8g}" for value in row] for row in table.tolist())
