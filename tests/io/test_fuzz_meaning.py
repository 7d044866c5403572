"""What other programs mean is what is read: positions and masks in random formats, dialects and names.

Every example has positions or voxels that are known before they are written, by code of this file, as
some program writes them. The reader gives the same, or an error that names the cause where the example
allows one. What was read is then written by ourselves, and read again.
"""

from __future__ import annotations

import bz2
import gzip
import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoseg.config.convert import ConvertConfig
from cryoseg.config.pick import CoordsOrder, PickFormat, ThicknessAxis
from cryoseg.config.segment import PostprocessConfig
from cryoseg.errors import CryosegError, InputError
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.motive_lists import tomogram_numbers
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.io.picks.picks import read_picks
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.pipelines.convert.files import convert_picks
from cryoseg.pipelines.segment.postprocess import postprocess_files

SHAPE = (40, 60, 80)  # z, y, x of all images
VOXEL = 8.0
STEMS = (
    *("TS_01", "007", "1e5", "12.10", "00255", "nan", "NA", "<NA>", "None", "True", "-5", "0x1F", "1_000"),
    *("data_01", "loop_1", "_a", "mic#1", "#2", "it's", "grid 1", "h\u00e4lix", "a\u00a0b", "inf", "a.b-c"),
)
FOLDERS = ("", "", "grid1/", "grid2/", "MotionCorr/job 002/", "a.b/")
ENDS = ("", "", ".mrc", ".rec", ".tomostar")
Points = np.ndarray  # (n, 2) x, y or (n, 3) x, y, z


@dataclass
class Example:
    """A file of picks, and what it means."""

    name: str
    content: bytes | str
    points: dict[str, Points]
    scores: dict[str, list[float]] | None = None
    rotations: dict[str, np.ndarray] | None = None
    frame: PickFrame = field(default_factory=lambda: PickFrame(voxel_size=VOXEL, shape=SHAPE))
    unbinned: bool = False
    error: str = ""  # words of an error that is right as well
    tolerance: float = 1e-3


def points_of(rng: Random, dimensions: int, count: int, *, whole: bool = False) -> Points:
    sizes = SHAPE[::-1][:dimensions]
    digits = 0 if whole else rng.choice((0, 1, 3))
    return np.array([[round(rng.uniform(0, n - 1), digits) for n in sizes] for _ in range(count)])


def several(rng: Random, dimensions: int) -> dict[str, Points]:
    names = {rng.choice(FOLDERS) + rng.choice(STEMS) + rng.choice(ENDS) for _ in range(rng.randint(1, 4))}
    return {name: points_of(rng, dimensions, rng.randint(1, 5)) for name in sorted(names)}


def scores_of(rng: Random, points: dict[str, Points]) -> dict[str, list[float]] | None:
    if rng.random() < 0.5:
        return None
    return {name: [round(rng.random(), 4) for _ in rows] for name, rows in points.items()}


def about(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Rotations of vectors by angles (n,) about an axis, counterclockwise seen against it."""
    c, s, o, i = np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0 * degrees, 0 * degrees + 1
    rows = {
        "x": (i, o, o, o, c, -s, o, s, c),
        "y": (c, o, s, o, i, o, -s, o, c),
        "z": (c, -s, o, s, c, o, o, o, i),
    }
    return np.stack(rows[axis], axis=1).reshape(-1, 3, 3)


def angles_of(rng: Random, count: int) -> np.ndarray:
    """Three angles each in degrees, of which the middle one is that of the tilt."""
    return np.array(
        [[rng.randint(-179, 180), rng.randint(0, 180), rng.randint(-179, 180)] for _ in range(count)], float
    )


def relion_matrices(angles: np.ndarray) -> np.ndarray:
    rot, tilt, psi = angles.T
    return about("z", -psi) @ about("y", -tilt) @ about("z", -rot)


def motl_matrices(angles: np.ndarray) -> np.ndarray:
    phi, theta, psi = angles.T
    return about("z", psi) @ about("x", theta) @ about("z", phi)


def dynamo_matrices(angles: np.ndarray) -> np.ndarray:
    tdrot, tilt, narot = angles.T
    return about("z", -tdrot) @ about("x", -tilt) @ about("z", -narot)


def encoded(rng: Random, lines: list[str]) -> str:
    end = rng.choice(("\n", "\n", "\r\n"))
    return rng.choice(("", "", "\ufeff")) + end.join(lines) + rng.choice((end, end + " " + end, ""))


def in_star(name: str) -> str:
    if " " not in name and not name.lower().startswith(("data_", "loop_", "_", "#", "'", '"')):
        return name
    return f'"{name}"'


def shown(rng: Random, value: float) -> str:
    return rng.choice((f"{value:.4f}", f"{value:.6e}", f"{value:12.6f}".strip(), repr(float(value))))


def star_lines(
    rng: Random, columns: dict[str, list[str]], *, block: str = "particles", optics: str = ""
) -> list[str]:
    order = rng.sample(sorted(columns), len(columns))
    gap = rng.choice((" ", "\t", "   "))
    number = rng.random() < 0.7
    lines = [optics, f"data_{block}", "", "loop_"]
    lines += [f"_{column}" + (f" #{index}" if number else "") for index, column in enumerate(order, 1)]
    for row in zip(*(columns[column] for column in order), strict=True):
        lines.append(rng.choice(("", "  ")) + gap.join(row) + rng.choice(("", " ", " # by hand")))
    return [*lines, ""]


def star(rng: Random) -> Example:
    dimensions = rng.choice((2, 3))
    points = several(rng, dimensions)
    scores = scores_of(rng, points)
    rows = [(name, index) for name, own in points.items() for index in range(len(own))]
    rng.shuffle(rows)
    own = {name: np.array([points[name][index] for one, index in rows if one == name]) for name in points}
    shift = np.array([rng.choice((0.0, 16.0, -8.0)) for _ in range(dimensions)])
    has_shift = rng.random() < 0.3
    angles = {row: angles_of(rng, 1)[0] for row in rows} if rng.random() < 0.5 else None
    names = ["rlnMicrographName"] if dimensions == 2 else ["rlnMicrographName", "rlnTomoName"]
    lines: list[str] = []
    parts = [rows[:1], rows[1:]] if rng.random() < 0.3 and len(rows) > 1 else [rows]
    key, block = rng.choice(names), rng.choice(("particles", "", "images"))
    for part in parts:
        columns = {key: [in_star(name) for name, _ in part]}
        for axis in range(dimensions):
            values = [points[name][index][axis] for name, index in part]
            columns[f"rlnCoordinate{'XYZ'[axis]}"] = [shown(rng, value) for value in values]
            if has_shift:
                columns[f"rlnOrigin{'XYZ'[axis]}Angst"] = [f"{shift[axis]}"] * len(part)
        if scores:
            columns["rlnAutopickFigureOfMerit"] = [str(scores[name][index]) for name, index in part]
        for at, kind in enumerate(("Rot", "Tilt", "Psi")):
            if angles:
                columns[f"rlnAngle{kind}"] = [f"{angles[row][at]}" for row in part]
        for extra in rng.sample(("rlnOpticsGroup", "rlnVoltage", "rlnClassNumber"), rng.randint(0, 3)):
            columns[extra] = ["1"] * len(part)
        optics = "# version 30001\ndata_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n1 300\n"
        lines += star_lines(rng, columns, block=block, optics=rng.choice(("", optics)))
    expected = {name: rows - (shift / VOXEL if has_shift else 0) for name, rows in own.items()}
    shuffled = (
        None
        if scores is None
        else {name: [scores[name][index] for one, index in rows if one == name] for name in points}
    )
    matrices = (
        {name: relion_matrices(np.array([angles[row] for row in rows if row[0] == name])) for name in points}
        if angles
        else None
    )
    return Example("a.star", encoded(rng, lines), expected, shuffled, matrices)


def relion_star(rng: Random) -> Example:
    points = several(rng, 3)
    relion = RelionFrame(pixel_size=2.0, size=tuple(4 * n for n in SHAPE))
    frame = PickFrame(voxel_size=VOXEL, shape=SHAPE, relion={"": relion})
    is_five = rng.random() < 0.5
    columns: dict[str, list[str]] = {
        "rlnTomoName": [in_star(name) for name, own in points.items() for _ in own]
    }
    for axis in range(3):
        values = np.concatenate([own[:, axis] for own in points.values()]) * 4
        if is_five:  # RELION's picker: angstrom from N / 2 - 1
            values = (values - (4 * SHAPE[2 - axis] / 2 - 1)) * 2.0
        column = f"rlnCenteredCoordinate{'XYZ'[axis]}Angst" if is_five else f"rlnCoordinate{'XYZ'[axis]}"
        columns[column] = [f"{value:.5f}" for value in values]
    return Example(
        "a.star", encoded(rng, star_lines(rng, columns)), points, frame=frame, unbinned=not is_five
    )


HEADERS = (
    {"name": "image", "x": "x", "y": "y", "z": "z", "score": "score"},
    {"name": "tomogram", "x": "X", "y": "Y", "z": "Z", "score": "Confidence"},
    {
        "name": "rlnMicrographName",
        "x": "rlnCoordinateX",
        "y": "rlnCoordinateY",
        "z": "rlnCoordinateZ",
        "score": "score",
    },
)


def table(rng: Random) -> Example:
    dimensions = rng.choice((2, 3))
    points = several(rng, dimensions)
    scores = scores_of(rng, points)
    header, gap = rng.choice(HEADERS), rng.choice(",\t")
    keys = rng.sample(
        ["name", *"xyz"[:dimensions], *(["score"] if scores else []), "other"],
        4 + bool(scores) + dimensions - 2,
    )
    wanted = ["name", *"xyz"[:dimensions], *(["score"] if scores else [])]
    keys = [key for key in keys if key in wanted or key == "other"] + [
        key for key in wanted if key not in keys
    ]
    lines = [gap.join(header.get(key, "psi") for key in keys)]
    for name, own in points.items():
        for index, row in enumerate(own):
            cells = {"name": name, "other": "7", "score": str(scores[name][index]) if scores else ""}
            cells |= {"xyz"[axis]: shown(rng, value) for axis, value in enumerate(row)}
            lines.append(gap.join(cells[key] for key in keys))
    return Example(f"a.{rng.choice(('csv', 'tsv', 'txt'))}", encoded(rng, lines), points, scores)


def cetpick(rng: Random) -> Example:
    points = several(rng, 3)
    axis = rng.choice(list(ThicknessAxis))
    # CET-pick's z is the thickness axis; its y is the other of z and y, or the file's z where x is thin.
    columns = {"z": (0, 1, 2), "y": (0, 2, 1), "x": (1, 2, 0)}[axis.value]
    lines = ["image_name\tx_coord\ty_coord\tz_coord"]
    lines += [
        "\t".join([name, *(str(row[column]) for column in columns)])
        for name, own in points.items()
        for row in own
    ]
    frame = PickFrame(voxel_size=VOXEL, shape=SHAPE, thickness_axis=axis)
    return Example("a.txt", encoded(rng, lines), points, frame=frame)


def coords(rng: Random) -> Example:
    is_cetpick = rng.random() < 0.5
    own = points_of(rng, 3, rng.randint(1, 6), whole=is_cetpick or rng.random() < 0.5)
    scores = [round(rng.random(), 4) for _ in own] if is_cetpick and rng.random() < 0.5 else None
    rows = own[:, [0, 2, 1]] if is_cetpick else own
    order = rng.choice((None, CoordsOrder.XZY if is_cetpick else CoordsOrder.XYZ))
    frame = PickFrame(voxel_size=VOXEL, shape=rng.choice((None, SHAPE)), coords_order=order)
    digits = 0 if is_cetpick else 3
    lines = []
    for index, row in enumerate(rows):
        cells = [f"{value:.{digits}f}" for value in row] + ([str(scores[index])] if scores else [])
        lines.append(("\t" if is_cetpick else " ").join(cells))
    error = "" if order else "--coords-order"
    return Example(
        "a.coords", encoded(rng, lines), {"": own}, {"": scores} if scores else None, frame=frame, error=error
    )


def bare(rng: Random) -> Example:
    own = points_of(rng, 3, rng.randint(1, 5))
    kind = rng.choice(("point", "contour", "object", "score"))
    scores = [round(rng.random(), 4) for _ in own] if kind == "score" else None
    before = {"contour": "1 ", "object": "1 2 "}.get(kind, "")
    corner = np.array([0, 0, 0]) if kind == "score" else np.array([0.5, 0.5, 0])
    lines = [
        before + " ".join(f"{value:9.3f}" for value in row + corner) + (f" {scores[index]}" if scores else "")
        for index, row in enumerate(own)
    ]
    error = "may be x, y, z, score or contour" if kind in ("contour", "score") else ""
    return Example("a.txt", encoded(rng, lines), {"": own}, {"": scores} if scores else None, error=error)


def box(rng: Random) -> Example:
    own = points_of(rng, 2, 2 * rng.randint(1, 4), whole=True)
    side = 2 * rng.randint(4, 20)
    kind = rng.choice(("plain", "eman", "helix"))
    fifth = {"plain": ("", ""), "eman": ("\t-3", "\t-3"), "helix": ("\t-1", "\t-2")}[kind]
    lines = [
        f"{x - side / 2:g}\t{y - side / 2:g}\t{side}\t{side}{fifth[index % 2]}"
        for index, (x, y) in enumerate(own)
    ]
    return Example("a.box", encoded(rng, lines), {"": own})


def cbox(rng: Random) -> Example:
    dimensions = rng.choice((2, 3))
    own = points_of(rng, dimensions, rng.randint(1, 5))
    side = rng.choice((37.0, 40.0))
    scores = [round(rng.random(), 4) for _ in own]
    missing = rng.choice(("<NA>", "nan"))
    columns = {f"Coordinate{'XY'[axis]}": [f"{row[axis] - side / 2:.4f}" for row in own] for axis in (0, 1)}
    columns["CoordinateZ"] = [f"{row[2]:.4f}" if dimensions == 3 else missing for row in own]
    columns |= {name: [f"{side}"] * len(own) for name in ("Width", "Height", "EstWidth", "EstHeight")}
    columns |= {"Confidence": [str(score) for score in scores], "NumBoxes": [missing] * len(own)}
    head = ["", "data_global", "", "_cbox_format_version 1.0", ""]
    lines = [
        *head,
        *star_lines(rng, columns, block="cryolo"),
        "data_cryolo_include",
        "",
        "loop_",
        "_slice_index #1",
        "",
    ]
    return Example("a.cbox", encoded(rng, lines), {"": own}, {"": scores})


def imod(rng: Random) -> Example:
    contours = [points_of(rng, 3, rng.randint(0, 3)).reshape(-1, 3) for _ in range(rng.randint(1, 4))]
    contours.append(points_of(rng, 3, 1))
    content = b"IMODV1.2".ljust(240, b"\0")
    for index, contour in enumerate(contours):
        if index == 0 or rng.random() < 0.4:
            content += rng.choice((b"", b"LABL" + struct.pack(">i", 4) + b"abcd")) if index else b""
            content += b"OBJT".ljust(180, b"\0")
        content += b"CONT" + struct.pack(">4i", len(contour), 0, 0, 0)
        content += (contour + np.array([0.5, 0.5, 0])).astype(">f4").tobytes()
    return Example("a.mod", content + b"IEOF", {"": np.concatenate(contours)}, tolerance=1e-3)


def ndjson(rng: Random) -> Example:
    own = points_of(rng, 3, rng.randint(1, 5))
    matrices = motl_matrices(angles_of(rng, len(own))) if rng.random() < 0.5 else None
    lines = []
    for index, (x, y, z) in enumerate(own):
        item: dict[str, Any] = {"type": "point", "location": {"z": z, "x": x, "y": y}}
        if matrices is not None:
            item |= {"type": "orientedPoint", "xyz_rotation_matrix": matrices[index].tolist()}
        lines.append(json.dumps(item))
    rotations = None if matrices is None else {"": matrices}
    return Example("a.ndjson", "\n".join(lines) + "\n", {"": own}, rotations=rotations)


def copick(rng: Random) -> Example:
    own = points_of(rng, 3, rng.randint(1, 5))
    matrices = motl_matrices(angles_of(rng, len(own)))
    shift = np.array([rng.choice((0.0, 16.0, -8.0)) for _ in range(3)])
    scores = [round(rng.random(), 4) for _ in own]
    points = []
    for index, row in enumerate(own):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = matrices[index], shift
        x, y, z = (row * VOXEL).tolist()
        points.append(
            {"location": {"x": x, "y": y, "z": z}, "transformation_": matrix.tolist(), "score": scores[index]}
        )
    content = {
        "pickable_object_name": "a",
        "user_id": "b",
        "session_id": "0",
        "run_name": "TS_01",
        "points": points,
    }
    name = "TS_01"
    return Example(
        "b_0_a.json", json.dumps(content), {name: own + shift / VOXEL}, {name: scores}, {name: matrices}
    )


def numbered(rng: Random) -> tuple[dict[str, Points], dict[str, np.ndarray], np.ndarray]:
    """Points and angles of tomograms with numbers in place of names, and one shift in voxels."""
    names = [str(number) for number in sorted(rng.sample(range(1, 40), rng.randint(1, 3)))]
    points = {name: points_of(rng, 3, rng.randint(1, 4)) for name in names}
    shift = np.array([rng.choice((0.0, 1.5, -2.0)) for _ in range(3)])
    return points, {name: angles_of(rng, len(own)) for name, own in points.items()}, shift


def dynamo(rng: Random) -> Example:
    points, angles, shift = numbered(rng)
    scores = {name: [round(rng.random(), 4) for _ in own] for name, own in points.items()}
    lines = []
    for name, own in points.items():
        for index, (place, three) in enumerate(zip(own, angles[name], strict=True)):
            cells = [0.0] * rng.choice((35, 42))
            cells = (cells + [0.0] * 7)[: 35 if not lines else len(lines[0].split())]
            cells[0], cells[1], cells[9], cells[19] = len(lines) + 1, 1, scores[name][index], float(name)
            cells[3:6], cells[6:9], cells[23:26] = shift, three, place
            lines.append(" ".join(f"{cell:.8g}" for cell in cells))
    return Example(
        "a.tbl",
        encoded(rng, lines),
        {name: own + shift for name, own in points.items()},
        scores,
        {name: dynamo_matrices(three) for name, three in angles.items()},
    )


def motive_list(rng: Random) -> Example:
    points, angles, shift = numbered(rng)
    rows = []
    for name, own in points.items():
        for place, (phi, theta, psi) in zip(own, angles[name], strict=True):
            row = [
                0.5,
                0,
                0,
                len(rows) + 1,
                float(name),
                1,
                0,
                *(place + 1),
                *shift,
                0,
                0,
                0,
                phi,
                psi,
                theta,
                1,
            ]
            rows.append(row)
    header = bytearray(512)
    order, header[0], header[3] = "<", 6, 5
    struct.pack_into("<3i", header, 4, 20, len(rows), 1)
    return Example(
        "a.em",
        bytes(header) + np.array(rows, f"{order}f4").tobytes(),
        {name: own + shift for name, own in points.items()},
        {name: [0.5] * len(own) for name, own in points.items()},
        {name: motl_matrices(three) for name, three in angles.items()},
    )


def stopgap(rng: Random) -> Example:
    points, angles, shift = numbered(rng)
    columns: dict[str, list[str]] = {}
    for name, own in points.items():
        for place, (phi, theta, psi) in zip(own, angles[name], strict=True):
            cells = {
                "motl_idx": 1,
                "tomo_num": name,
                "object": 1,
                "subtomo_num": 1,
                "halfset": "A",
                "score": 0.5,
            }
            cells |= {f"orig_{axis}": value + 1 for axis, value in zip("xyz", place, strict=True)}
            cells |= {f"{axis}_shift": value for axis, value in zip("xyz", shift, strict=True)}
            for key, value in (cells | {"phi": phi, "psi": psi, "the": theta, "class": 1}).items():
                columns.setdefault(key, []).append(str(value))
    return Example(
        "a.star",
        encoded(rng, star_lines(rng, columns, block="stopgap_motivelist")),
        {name: own + shift for name, own in points.items()},
        {name: [0.5] * len(own) for name, own in points.items()},
        {name: motl_matrices(three) for name, three in angles.items()},
    )


WRITERS: tuple[Callable[[Random], Example], ...] = (
    *(star, star, star, relion_star, table, table, cetpick, coords, coords, bare, box, cbox, imod, ndjson),
    *(copick, dynamo, motive_list, stopgap),
)


def check_picks(rng: Random, folder: Path) -> str:
    """Write an example, read it, convert it, and match its names; say how it ended."""
    example = rng.choice(WRITERS)(rng)
    path = folder / example.name
    content = example.content.encode() if isinstance(example.content, str) else example.content
    path.write_bytes(content)
    refusal = ""
    try:
        sets = read_picks(path, replace(example.frame, unbinned=example.unbinned))
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert example.error, (refusal, content)
        assert example.error in refusal, content
        return "refused"
    compare(example, example.points, example.scores, sets, example.tolerance)
    check_rotations(example.rotations, sets)
    kind = f"read {example.name}"
    dimensions = next(iter(example.points.values())).shape[1]
    flavors = [
        one
        for one in PickFormat
        if dimensions in one.traits.dimensions
        and (one.traits.several or len(sets) == 1)
        and one
        not in (PickFormat.STAR_RELION4, PickFormat.STAR_RELION5, PickFormat.CRYOSPARC, PickFormat.CRYOPPP)
    ]
    flavor = rng.choice(flavors)
    target = folder / f"out{flavor.suffix}"
    config = ConvertConfig(flavor=flavor, diameter_px=20, from_relion4=example.unbinned)
    convert_picks(path, target, config, frame=example.frame, overwrite=True)
    own_frame = PickFrame(thickness_axis=example.frame.thickness_axis, coords_order=CoordsOrder.XZY)
    again = read_picks(target, own_frame)
    wide = {PickFormat.COORDS: 0.51, PickFormat.BOX: 0.51}.get(flavor, 2 * example.tolerance)
    # Files of one image name none, and convert gives an image without a name that of its file.
    given = [name or target.with_name(example.name).stem for name in sets]
    numbers = tomogram_numbers(target, given)
    is_named = flavor.traits.several or flavor is PickFormat.COPICK
    is_number = flavor in (PickFormat.MOTL, PickFormat.STOPGAP)
    names = {
        name: (str(numbers[own]) if is_number else own) if is_named else ""
        for name, own in zip(sets, given, strict=True)
    }
    renamed = {names[name]: own for name, own in example.points.items()}
    holds = flavor.traits.holds
    scores = {names[name]: own for name, own in (example.scores or {}).items()}
    compare(example, renamed, scores if scores and "scores" in holds else None, again, wide)
    if example.rotations is not None and "rotations" in holds:
        check_rotations({names[name]: own for name, own in example.rotations.items()}, again)
    check_names(rng, folder, list(sets))
    return kind


def check_rotations(rotations: dict[str, np.ndarray] | None, sets: Any) -> None:
    for name, matrices in (rotations or {}).items():
        found = sets[name].rotations
        if found is None:  # In some formats, no rotation and no orientation are the same.
            found = np.tile(np.eye(3), (len(matrices), 1, 1))
        np.testing.assert_allclose(found, matrices, atol=1e-4)


def compare(
    example: Example,
    points: dict[str, Points],
    scores: dict[str, list[float]] | None,
    sets: Any,
    tolerance: float,
) -> None:
    content = example.content
    assert set(sets) == set(points), content
    for name, own in points.items():
        np.testing.assert_allclose(
            sets[name].centers[:, ::-1], own, rtol=0, atol=tolerance, err_msg=str(content)
        )
        if scores is not None:
            np.testing.assert_allclose(
                sets[name].scores, scores[name], rtol=0, atol=1e-4, err_msg=str(content)
            )


def check_names(rng: Random, folder: Path, names: list[str]) -> None:
    """Every name finds its own image among all, in the folder of a project; or two images are named."""
    named = [name for name in names if name]
    paths = [folder / "project" / (name if name.endswith(ENDS[2:]) else f"{name}.mrc") for name in named]
    order = rng.sample(range(len(named)), len(named))
    images = [ImageName(str(paths[index]), paths[index]) for index in order]
    refusal, found = "", []
    try:
        found = match_names([ImageName(name, folder / "a.star") for name in named], images)
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert "may mean" in refusal or "may both mean" in refusal
        cores = Counter(ImageName(name, folder).core for name in named)
        assert max(cores.values()) > 1, (named, refusal)
        return
    assert [None if index is None else order[index] for index in found] == list(range(len(named))), named


def mrc(rng: Random, data: np.ndarray) -> tuple[str, bytes]:
    order = rng.choice("<>")
    mode = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}[data.dtype.str[1:]]
    axes = rng.choice(((1, 2, 3), (1, 2, 3), *permutations((1, 2, 3))))
    stored = data.transpose([3 - axis for axis in axes[::-1]])
    header, extended = bytearray(1024), bytes(rng.choice((0, 0, 128, 1000)))
    struct.pack_into(f"{order}4i", header, 0, *stored.shape[::-1], mode)
    struct.pack_into(f"{order}3i", header, 28, *data.shape[::-1])
    struct.pack_into(f"{order}6f", header, 40, *(n * VOXEL for n in data.shape[::-1]), 90, 90, 90)
    struct.pack_into(f"{order}3i3f2i", header, 64, *axes, 0, 0, 0, 1, len(extended))
    header[208:212], header[212:216] = b"MAP ", b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0"
    if mode == 0:
        struct.pack_into(f"{order}2i", header, 152, 1146047817, 1)
    packed = bytes(header) + extended + stored.astype(data.dtype.newbyteorder(order)).tobytes()
    end, pack = rng.choice((("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)))
    return rng.choice((".mrc", ".rec", ".map")) + end, pack(packed)


def em(rng: Random, data: np.ndarray) -> tuple[str, bytes]:
    data = data.astype("i2" if data.dtype.kind in "iu" else "f4")
    order, code = rng.choice((("<", 6), (">", 3)))
    header = bytearray(512)
    header[0], header[3] = code, {"i2": 2, "f4": 5}[data.dtype.str[1:]]
    struct.pack_into(f"{order}3i", header, 4, *data.shape[::-1])
    struct.pack_into(f"{order}i", header, 120, round(1000 * VOXEL))
    return ".em", bytes(header) + data.astype(data.dtype.newbyteorder(order)).tobytes()


def write_tiff(rng: Random, path: Path, data: np.ndarray) -> Path:
    path = path.with_name(f"{path.name}{rng.choice(('.tif', '.tiff', '.ome.tif'))}")
    size = {"PhysicalSizeX": VOXEL, "PhysicalSizeY": VOXEL, "PhysicalSizeZ": VOXEL}
    units = {f"{key}Unit": "\u00c5" for key in size}
    is_ome = path.name.endswith(".ome.tif")
    tifffile.imwrite(
        path,
        data,
        photometric="minisblack",
        metadata={"axes": "ZYX", **size, **units} if is_ome else None,
        compression=rng.choice((None, "zlib")),
        byteorder=rng.choice("<>"),
        bigtiff=rng.random() < 0.5,
    )
    return path


def write_zarr(rng: Random, path: Path, data: np.ndarray) -> Path:
    version, path = rng.choice((2, 3)), path.with_name(f"{path.name}.zarr")
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.create_array("0", data=data, chunks=tuple(rng.randint(2, n) for n in data.shape))
    steps = [{"type": "scale", "scale": [VOXEL / 10] * 3}]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    one = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    group.attrs.update({"multiscales": [one]} if version == 2 else {"ome": {"multiscales": [one]}})
    return path


def check_volume(rng: Random, folder: Path) -> str:
    """Marked voxels in a volume, with or without padding, come back from every format and as a mask."""
    shape = tuple(rng.sample(range(3, 12), 3))
    marked = np.array([rng.random() < 0.4 for _ in range(int(np.prod(shape)))]).reshape(shape)
    marked[0, 0, 0], marked[-1, -1, -1] = True, False
    marked = np.pad(marked, rng.choice(((0, 0), (2, 1), (0, 5))))
    is_mask = rng.random() < 0.5
    kind = rng.choice(("i1", "i2", "u2", "f4", "f2")) if is_mask else "f4"
    data = (marked if is_mask else np.where(marked, 3.0, -4.0)).astype(kind)
    name = rng.choice(STEMS).replace("<", "").replace(">", "")
    path = folder / "grid [1]" / name
    path.parent.mkdir(exist_ok=True)
    writer = rng.choice(("mrc", "mrc", "em", "tiff", "zarr"))
    if writer in ("mrc", "em"):
        suffix, content = (mrc if writer == "mrc" else em)(rng, data)
        path = path.with_name(f"{name}{suffix}")
        path.write_bytes(content)
    elif kind == "f2":
        return "left out"
    else:
        path = (write_tiff if writer == "tiff" else write_zarr)(rng, path, data)
    tomogram = (read_mask if is_mask else read_tomogram)(path)
    np.testing.assert_array_equal(tomogram.data, data, err_msg=path.name)
    if path.suffix not in (".tif", ".tiff"):
        assert tomogram.geometry.voxel_size == pytest.approx((VOXEL,) * 3), path.name
    out = folder / "out"
    report = postprocess_files(
        [path], out, PostprocessConfig(steps=(), logit_threshold=None if is_mask else 0.0)
    )
    (row,) = report.rows
    mask = next(output for output in row.outputs if output.suffix == ".mrc")
    np.testing.assert_array_equal(read_mask(mask).data > 0, marked, err_msg=path.name)
    return f"mask of {writer}"


def run(rng: Random, folder: Path) -> str:
    try:
        return (check_volume if rng.random() < 0.25 else check_picks)(rng, folder)
    except CryosegError as error:
        raise AssertionError(f"refused without a reason: {error}") from error


def drawn(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )


def check_many(factory: pytest.TempPathFactory, examples: int) -> Counter[str]:
    ends: Counter[str] = Counter()

    @drawn(examples)
    @given(seed=st.integers(0, 2**32))
    def one(seed: int) -> None:
        ends[run(Random(seed), factory.mktemp("meaning"))] += 1

    one()
    return ends


def test_known_positions_and_masks_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    ends = check_many(tmp_path_factory, 100)
    assert ends["refused"] < 0.1 * sum(ends.values()), ends


@pytest.mark.slow
def test_many_known_positions_and_masks_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    ends = check_many(tmp_path_factory, 2000)
    assert ends["refused"] < 0.1 * sum(ends.values()), ends
