"""`cryoseg relion`: commands of cryoseg as jobs of RELION."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Exit

from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Run cryoseg as a job of RELION, from its window External.")
_REPORT = "cryoseg_report.json"
_UNUSED = ("in_movies", "in_coords", "in_parts")


@dataclass(frozen=True, kw_only=True)
class ExternalJob(Settings):
    """Options that RELION passes to every external program."""

    o: Path = setting(help="Folder of the job of RELION.", flags=("--o",))
    in_mics: Path | None = setting(
        None, help="STAR file of the micrographs, or of tomograms.", flags=("--in_mics",)
    )
    in_tomograms: Path | None = setting(
        None, help="STAR file of the tomograms of RELION 5.", flags=("--in_tomograms",)
    )
    in_3dref: Path | None = setting(None, help="A single tomogram.", flags=("--in_3dref",))
    in_mask: Path | None = setting(None, help="A mask for picking.", flags=("--in_mask",))
    in_movies: Path | None = setting(None, help="This option is not used.", flags=("--in_movies",))
    in_coords: Path | None = setting(None, help="This option is not used.", flags=("--in_coords",))
    in_parts: Path | None = setting(None, help="This option is not used.", flags=("--in_parts",))
    j: int = setting(1, help="Number of threads.", flags=("--j",), at_least=1)
    only_do_unfinished: bool = setting(
        False, help="Finished outputs are always kept.", flags=("--only_do_unfinished",)
    )
    pipeline_control: Path | None = setting(
        None,
        help="Folder of the files by which RELION and the job communicate.",
        flags=("--pipeline_control",),
        shown="--o",
    )

    @property
    def source(self) -> Path:
        """The one input.

        Raises
        ------
        ConfigError
            If none or several are given, or inputs that are not used.
        """
        for name in _UNUSED:
            if getattr(self, name) is not None:
                raise ConfigError(f"--{name}: is not used. Leave the field empty.")
        given = [one for one in (self.in_mics, self.in_tomograms, self.in_3dref) if one is not None]
        if len(given) != 1:
            raise ConfigError(f"--in_mics, --in_tomograms, --in_3dref: give one of them, not {len(given)}.")
        return given[0]


Options = Annotated[
    list[str] | None,
    Argument(help="Options of the command, as the window of the job passes them.", show_default=False),
]
_UNKNOWN = {"ignore_unknown_options": True}


@app.command(context_settings=_UNKNOWN)
def pick(job: ExternalJob, options: Options = None) -> None:
    """Pick particles as a job of RELION.

    For example:

    cryoseg relion pick --in_mics CtfFind/job003/micrographs_ctf.star --o External/job004/
    --particle-diameter 180
    """
    from cryoseg.io.picks.relion_images import read_image_list
    from cryoseg.pipelines.relion_job import pick_nodes, run_job

    def work() -> int:
        words = ["pick", str(job.source), "--output-dir", str(job.o), "--relion"]
        is_list = job.source.suffix.lower() == ".star"
        if is_list and any(image.tomogram for image in read_image_list(job.source)):
            words += ["--tomograms-star", str(job.source)]
        if job.in_mask is not None:
            words += ["--mask", str(job.in_mask)]
        return _run(job, [*words, *(options or ())])

    raise Exit(run_job(job.o, work, lambda: pick_nodes(job.o, job.source)))


@app.command(context_settings=_UNKNOWN)
def segment(job: ExternalJob, options: Options = None) -> None:
    """Segment membranes as a job of RELION.

    For example:

    cryoseg relion segment --in_tomograms Tomograms/job007/tomograms.star --o External/job008/ --post-process
    """
    from cryoseg.pipelines.batches.report import read_report
    from cryoseg.pipelines.relion_job import mask_nodes, run_job

    report = job.o / _REPORT

    def work() -> int:
        if job.in_mask is not None:
            raise ConfigError("--in_mask: is not used. Leave the field empty.")
        words = ["segment", str(job.source), "--output-dir", str(job.o), "--report", str(report)]
        return _run(job, [*words, *(options or ())])

    raise Exit(run_job(job.o, work, lambda: mask_nodes(read_report(report))))


def _run(job: ExternalJob, words: list[str]) -> int:
    """Run a command of cryoseg and return its exit status."""
    from cryoseg.cli.app import app as cryoseg

    if any(word.split("=")[0] == "--cluster" for word in words):
        raise ConfigError("--cluster: RELION submits the job itself. Leave it out.")
    os.environ["OMP_NUM_THREADS"] = str(job.j)  # before torch is imported
    return int(cryoseg(words, standalone_mode=False) or 0)
