"""The files by which RELION follows an external job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cryoseg.errors import InputError
from cryoseg.io.picks.star import read_tables
from cryoseg.pipelines.relion_job import Node, NodeKind, pick_nodes, run_job

JOB = Path("External/job002")
RELION3 = "data_job\n\n_rlnJobType 99\n"
RELION4 = "# version 30001\n\ndata_job\n\n_rlnJobTypeLabel relion.external\n"
RELION5 = "# version 50001\n\ndata_job\n\n_rlnJobTypeLabel relion.external\n"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    JOB.mkdir(parents=True)


def marks() -> list[str]:
    return sorted(path.name.removeprefix("RELION_JOB_") for path in JOB.glob("RELION_JOB_*"))


def output_nodes() -> list[tuple[str, ...]]:
    ((name, table),) = read_tables(JOB / "RELION_OUTPUT_NODES.star")
    assert name == "output_nodes"
    return [*table.itertuples(index=False, name=None)]


@pytest.mark.parametrize(("status", "mark"), [(0, "SUCCESS"), (1, "FAILURE"), (143, "ABORTED")])
def test_the_mark_says_how_the_job_ended(status, mark):
    for old in ("SUCCESS", "FAILURE", "ABORTED"):
        (JOB / f"RELION_JOB_EXIT_{old}").touch()
    assert run_job(JOB, lambda: status, lambda: []) == status
    assert marks() == [f"EXIT_{mark}"]


def test_an_error_is_a_failure():
    def work() -> int:
        raise InputError("m.mrc: is broken.")

    with pytest.raises(InputError):
        run_job(JOB, work, lambda: [])
    assert marks() == ["EXIT_FAILURE"]


def test_relion_can_abort_the_job():
    code = (
        "import time; from pathlib import Path; from cryoseg.pipelines.relion_job import run_job\n"
        "job = Path('External/job002')\n"
        "def work():\n"
        "    (job / 'RELION_JOB_ABORT_NOW').touch()\n"
        "    time.sleep(60)\n"
        "run_job(job, work, list)"
    )
    ended = subprocess.run([sys.executable, "-c", code], timeout=50, capture_output=True, check=False)
    assert b"Interrupted" in ended.stderr
    assert marks() == ["EXIT_ABORTED"]


@pytest.mark.parametrize(
    ("job", "coordinates"),
    [
        (RELION3, ("External/job002/coords_suffix_autopick.star", "2")),
        (RELION4, ("External/job002/autopick.star", "MicrographsCoords.star.relion.autopick")),
        (RELION5, ("External/job002/autopick.star", "MicrographCoordsGroup.star.relion.autopick")),
        (None, ("External/job002/autopick.star", "MicrographCoordsGroup.star.relion.autopick")),
    ],
)
def test_coordinates_are_a_node_of_each_release(job, coordinates):
    if job is not None:
        (JOB / "job.star").write_text(job)
    (JOB / "autopick.star").touch()
    source = Path("Import/job001/micrographs.star")
    run_job(JOB, lambda: 0, lambda: pick_nodes(JOB, source))
    assert output_nodes() == [coordinates]
    if job == RELION3:
        assert (JOB / "coords_suffix_autopick.star").read_text() == "Import/job001/micrographs.star\n"


def test_particles_of_tomograms_come_with_an_optimisation_set():
    (JOB / "particles_relion5.star").touch()
    source = Path("Tomograms/job007/tomograms.star")
    run_job(JOB, lambda: 0, lambda: pick_nodes(JOB, source))
    assert output_nodes() == [
        ("External/job002/particles_relion5.star", "ParticleGroupMetadata.star.relion.tomo.import"),
        ("External/job002/optimisation_set.star", "TomoOptimisationSet.star.relion"),
    ]
    ((name, table),) = read_tables(JOB / "optimisation_set.star")
    assert name == "optimisation_set"
    assert table.iloc[0].to_dict() == {
        "rlnTomoParticlesFile": "External/job002/particles_relion5.star",
        "rlnTomoTomogramsFile": "Tomograms/job007/tomograms.star",
    }


def test_relion31_has_no_particles_of_tomograms():
    (JOB / "job.star").write_text(RELION3)
    nodes = [Node(JOB / "p.star", NodeKind.PARTICLES), Node(JOB / "m.mrc", NodeKind.MASK)]
    run_job(JOB, lambda: 0, lambda: nodes)
    assert output_nodes() == [("External/job002/m.mrc", "7")]
