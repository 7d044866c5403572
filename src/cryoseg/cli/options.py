"""Options that mean the same in every command: one name, unit, default and help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from cryoseg.config import Naming, Precision

Inputs = Annotated[
    list[str],
    Argument(help="Files, folders, quoted globs, or .txt lists of them.", show_default=False),
]
OutputDir = Annotated[
    Path,
    Option("--output-dir", "-o", "--out-folder", "--output", help="Folder for the outputs; made if missing."),
]
PixelSize = Annotated[
    Optional[float],  # noqa: UP045
    Option(
        "--pixel-size",
        "--voxel-size",
        "--apix",
        help="Pixel size in angstrom; overrides the file header.",
        show_default="header",
    ),
]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then CPU.")]
PrecisionOption = Annotated[Precision, Option("--precision", help="auto: bfloat16 on CUDA, else float32.")]
Overwrite = Annotated[
    bool, Option("--overwrite", help="Replace finished outputs; they are kept otherwise, and said to be.")
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print errors and the summary only.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Print every setting and note.")]
CheckpointsDir = Annotated[
    Optional[Path],  # noqa: UP045
    Option(
        "--checkpoints-dir", help="Look for weights here first.", show_default="see `cryoseg weights path`"
    ),
]
NamingOption = Annotated[Naming, Option("--naming", help="etsam: the output names of ETSAM's own script.")]
Seed = Annotated[int, Option(help="Seed of every random choice.")]
