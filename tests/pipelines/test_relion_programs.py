"""External jobs in a project of the real RELION 3.1, and the particles that it extracts."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from cryoseg.config.pick import PickFormat
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_index import write_autopick
from cryoseg.io.picks.star import read_tables
from cryoseg.samples import __path__ as samples
from cryoseg.types import Picks

PROGRAMS = ("relion_import", "relion_pipeliner", "relion_preprocess")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.relion,
    pytest.mark.skipif(bool(MISSING), reason=f"RELION's {', '.join(MISSING)} is not installed"),
]

JOB, BOX = "External/job002/", 64
# Pixel sizes in angstrom by optics group, and the micrographs of the group.
GROUPS = {"full": (3.75, "raw/g1/a.mrc"), "binned": (7.5, "raw/g1/b.mrc"), "other": (3.2, "raw/g2/*.mrc")}
PIPELINE = "\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 2\n"
SETTINGS = """
data_job
_rlnJobType 99
_rlnJobIsContinue 0

data_joboptions_values
loop_
_rlnJobOptionVariable #1
_rlnJobOptionValue #2
fn_exe "{program}"
in_mic Import/job001/micrographs.star
param1_label particle-diameter
param1_value 180
param2_label model
param2_value particle-tiny
param3_label no-store-mask
param3_value ""
param4_label {label}
param4_value {value}
nr_threads 1
do_queue No
other_args "--no-preview"
"""


def call(*words: str | Path) -> str:
    ended = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, f"{words}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return ended.stdout


def write(path: str, image: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, image.astype(np.float32), overwrite=True) as file:
        file.voxel_size = 1.0  # not set: the pixel sizes are those of the optics groups


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose job 1 has imported four micrographs, one of them without particles."""
    monkeypatch.chdir(tmp_path)
    sample = mrcfile.read(next(Path(samples[0]).rglob("*micrograph*.mrc")))
    write("raw/g1/a.mrc", sample[400:912, 300:900])
    write("raw/g1/b.mrc", sample[:, :512].reshape(512, 2, 256, 2).mean((1, 3)))
    write("raw/g2/a.mrc", sample[300:812, 400:912])
    write("raw/g2/noise.mrc", np.random.default_rng(0).normal(size=(256, 256)))
    Path("Import/job001").mkdir(parents=True)
    imported = [
        "relion_import",
        "--odir",
        "Import/job001/",
        "--ofile",
        "micrographs.star",
        "--do_micrographs",
    ]
    for number, (name, (size, files)) in enumerate(GROUPS.items()):
        group = ["--do_micrographs", "--i", files, "--angpix", str(size), "--optics_group_name", name]
        call(*imported, *group, *["--continue"] * (number > 0))
    Path("default_pipeline.star").write_text(PIPELINE)
    return tmp_path


RUN = ["relion_pipeliner", "--RunJobs", JOB, "--sec_wait_after", "1"]


def add_external(command: str, label: str = "score-threshold", value: str = "0.6") -> None:
    program = f"{sys.executable} -m cryoseg relion {command}"
    Path("job.star").write_text(SETTINGS.format(program=program, label=label, value=value))
    call("relion_pipeliner", "--addJobFromStar", "job.star")


def table(path: str, name: str):
    return dict(read_tables(Path(path)))[name]


def test_every_marked_pixel_lies_in_the_center_of_its_box(project):
    add_external("pick")
    call(*RUN)
    assert Path(JOB, "RELION_JOB_EXIT_SUCCESS").exists(), Path(JOB, "run.err").read_text()
    nodes = table("default_pipeline.star", "pipeline_nodes")
    assert [*nodes[nodes.rlnPipeLineNodeName.str.startswith(JOB)].itertuples(index=False, name=None)] == [
        (f"{JOB}coords_suffix_autopick.star", "2")
    ]
    assert status() == "2"
    index = table(f"{JOB}autopick.star", "coordinate_files")
    names = ["raw/g1/a.mrc", "raw/g1/b.mrc", "raw/g2/a.mrc", "raw/g2/noise.mrc"]
    assert [*index.rlnMicrographName] == names

    # Each particle of the micrographs becomes one pixel with the number of the particle.
    counts = {}
    picked = {
        name: picks.centers
        for path in Path(JOB).glob("*_particles.star")
        for name, picks in read_picks(path).items()
        if len(picks)
    }
    for name in names:
        marked = np.zeros(mrcfile.read(name).shape)
        for number, (y, x) in enumerate(picked.get(name, ()), start=1):
            marked[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))] = number
        counts[name] = len(picked.get(name, ()))
        write(name, marked)
    assert min(counts[name] for name in names[:3]) >= 10
    assert counts["raw/g2/noise.mrc"] == 0

    # As RELION 3.1 takes them from the name of the node.
    suffix = Path(nodes.rlnPipeLineNodeName.iloc[-1]).name.removeprefix("coords_suffix")
    words = ["--coord_dir", JOB, "--coord_suffix", suffix, "--extract", "--extract_size", str(BOX)]
    out = ["--part_dir", "Extract/job003/", "--part_star", "Extract/job003/particles.star"]
    call("relion_preprocess", "--i", "Import/job001/micrographs.star", *words, *out)
    particles = table("Extract/job003/particles.star", "particles")
    assert particles.rlnMicrographName.value_counts().to_dict() == {name: counts[name] for name in names[:3]}
    for name in names[:3]:
        stack = mrcfile.read(Path("Extract/job003", name).with_suffix(".mrcs"))
        assert stack[:, BOX // 2, BOX // 2].tolist() == [*range(1, counts[name] + 1)]
    optics = table("Extract/job003/particles.star", "optics")
    assert optics.rlnImagePixelSize.astype(float).tolist() == [3.75, 7.5, 3.2]


MICROGRAPHS = """
data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
one 1 4.0 4.0 300 2.7 0.1

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
f.mrc 1
"""


HELIX = ["--helix", "--helical_outer_diameter", "80"]


def extract(suffix: str, *words: str) -> None:
    shutil.rmtree("out", ignore_errors=True)
    Path("out").mkdir()
    files = ["--i", "mics.star", "--coord_dir", "./", "--coord_suffix", suffix]
    size = ["--extract", "--extract_size", "16"]
    call("relion_preprocess", *files, "--part_dir", "out/", "--part_star", "out/p.star", *size, *words)


def mark(path: str, shape: tuple[int, ...], points: np.ndarray) -> None:
    marked = np.zeros(shape)
    marked[tuple(points.astype(int).T)] = np.arange(1, len(points) + 1)
    write(path, marked)


def test_relion_extracts_filaments_with_the_angles_that_it_computes_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mics.star").write_text(MICROGRAPHS)
    # RELION cuts a tube from (x, y) = (60, 100) to (192, 176) into segments, 8 pixels apart.
    mark("f.mrc", (256, 256), np.array([[100, 60]]))
    tube = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n60 100\n192 176\n"
    Path("f_tube.star").write_text(tube)
    cut = ["--helical_tubes", "--helical_cut_into_segments", "--helical_nr_asu", "1", "--helical_rise", "32"]
    extract("_tube.star", *HELIX, *cut, "--helical_bimodal_angular_priors")
    own = table("out/p.star", "particles")
    yx = own[["rlnCoordinateY", "rlnCoordinateX"]].astype(float).to_numpy()

    picks = Picks(centers=yx, tracks=np.ones(len(yx), int), pixel_size=4.0)
    write_picks("f_particles.star", {"f.mrc": picks}, flavor=PickFormat.STAR)
    write_autopick(Path(), {"f.mrc": Path("f_particles.star")}, project=Path())
    mark("f.mrc", (256, 256), np.floor(yx + 0.5))
    extract("_autopick.star", *HELIX, "--helical_bimodal_angular_priors")
    ours = table("out/p.star", "particles")
    for column in ("rlnAngleTiltPrior", "rlnAnglePsiPrior", "rlnHelicalTrackLengthAngst", "rlnHelicalTubeID"):
        np.testing.assert_allclose(ours[column].astype(float), own[column].astype(float), atol=0.01)
    assert {*ours.rlnAnglePsiFlipRatio.astype(float)} == {*own.rlnAnglePsiFlipRatio.astype(float)} == {0.5}
    assert mrcfile.read("out/f.mrcs")[:, 8, 8].tolist() == [*range(1, len(yx) + 1)]


def test_relion_reads_the_rows_of_a_tiff_micrograph_in_reverse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mics.star").write_text(MICROGRAPHS.replace("f.mrc", "f.tif"))
    yx = np.array([[20, 30], [60, 90], [70, 40]])
    marked = np.zeros((96, 128), np.float32)
    marked[tuple(yx.T)] = [1, 2, 3]
    tifffile.imwrite("f.tif", marked)
    write_picks("p.star", {"f.tif": Picks(centers=yx.astype(float))}, flavor=PickFormat.STAR)
    write_autopick(Path(), {"f.tif": Path("p.star")}, project=Path(), reversed_rows={"f.tif": 96})
    extract("_autopick.star")
    assert mrcfile.read("out/f.mrcs")[:, 8, 8].tolist() == [1, 2, 3]


def test_relion_extracts_filaments_from_a_tomogram(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mics.star").write_text(MICROGRAPHS)
    steps = 4 * np.arange(10)
    zyx = np.round(np.stack([20 + 0.2 * steps, 30 + 0.5 * steps, 40 + steps], axis=1))
    mark("f.mrc", (48, 96, 128), zyx)
    picks = Picks(centers=zyx, tracks=np.ones(10, int), pixel_size=4.0)
    write_picks("f_particles.star", {"f": picks}, flavor=PickFormat.STAR)
    extract("_particles.star", *HELIX)
    assert [float(mrcfile.read(path)[8, 8, 8]) for path in sorted(Path("out").glob("*.mrc"))] == [
        *range(1, 11)
    ]


def status() -> str:
    (state,) = table("default_pipeline.star", "pipeline_processes").rlnPipeLineProcessStatus
    return state


def wait_until(said: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_aborted_job_goes_on_where_it_was(project):
    add_external("pick")
    small = Path("raw/g2/noise.mrc").read_bytes()
    # The last micrograph takes longer than the job needs to notice the abort, however fast the machine is.
    write("raw/g2/noise.mrc", np.random.default_rng(0).normal(size=(6000, 6000)))
    with subprocess.Popen(RUN) as running:
        wait_until(Path(JOB, "g1_a_particles.json").exists)
        Path(JOB, "RELION_JOB_ABORT_NOW").touch()
        running.wait(60)
    assert [path.name for path in Path(JOB).glob("RELION_JOB_*")] == ["RELION_JOB_EXIT_ABORTED"]
    assert status() == "4"
    kept = Path(JOB, "g1_a_particles.json").stat().st_mtime_ns
    Path("raw/g2/noise.mrc").write_bytes(small)
    call(*RUN)
    assert status() == "2"
    assert Path(JOB, "g1_a_particles.json").stat().st_mtime_ns == kept
    assert len(table(f"{JOB}autopick.star", "coordinate_files")) == 4


def test_relion_is_told_that_a_job_failed(project):
    Path("raw/g1/b.mrc").write_bytes(b"no image")
    add_external("pick")
    call(*RUN)
    assert Path(JOB, "RELION_JOB_EXIT_FAILURE").exists()
    assert "b.mrc" in Path(JOB, "run.out").read_text() + Path(JOB, "run.err").read_text()
    assert status() == "3"


def test_relion_is_told_that_an_option_is_unknown(project):
    add_external("pick", label="particle-colour", value="blue")
    call(*RUN)
    assert Path(JOB, "RELION_JOB_EXIT_FAILURE").exists()
    # The message is printed after the mark.
    wait_until(lambda: "--particle-colour" in Path(JOB, "run.err").read_text())
