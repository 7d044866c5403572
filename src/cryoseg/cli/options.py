"""Options with the same name, unit, default and help in all commands."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from cryoseg.config import Mode0, Precision
from cryoseg.config.common import (
    ProgressStyle,
    checkpoints_dir_setting,
    device_setting,
    dry_run_setting,
    mode0_setting,
    overwrite_setting,
    pixel_size_setting,
    precision_setting,
    seed_setting,
)
from cryoseg.config.fetch_data import split_setting
from cryoseg.config.setting import Settings, setting

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole


@dataclass(frozen=True, kw_only=True)
class Verbosity(Settings):
    """Amount of printed text."""

    quiet: bool = setting(False, help="Print only errors and the summary.", flags=("--quiet", "-q"))
    verbose: bool = setting(False, help="Print every setting and note.", flags=("--verbose", "-v"))
    progress: ProgressStyle = setting(
        ProgressStyle.AUTO,
        help="How progress is printed. auto: a bar on a terminal, else plain lines; json: every event as one "
        "line of JSON on stderr.",
    )

    def console(self) -> AbstractContextManager[BatchConsole]:
        """Return a console, whose progress bar is removed at the end of the block."""
        from cryoseg.cli.console import batch_console  # imports rich, which --help does not need

        return batch_console(quiet=self.quiet, verbose=self.verbose, progress=self.progress)


def card_setting() -> Any:
    """Entries that are added to the model card."""
    return setting(
        None,
        help='JSON object to add to the model card, such as \'{"data": "..."}\'.',
        shown="none",
    )


Inputs = Annotated[
    list[str],
    Argument(
        help="Files, folders, quoted globs, .txt lists, or micrographs.star or tomograms.star of RELION.",
        show_default=False,
    ),
]
OutputDir = Annotated[
    Path,
    setting(
        help="Folder for the outputs; made if missing.",
        flags=("--output-dir", "-o", "--out-folder", "--output"),
    ),
]
PixelSize = Annotated[float | None, pixel_size_setting()]
Mode0Option = Annotated[Mode0, mode0_setting()]
Device = Annotated[str, device_setting()]
PrecisionOption = Annotated[Precision, precision_setting()]
Overwrite = Annotated[bool, overwrite_setting()]
DryRun = Annotated[bool, dry_run_setting()]
Quiet = Annotated[bool, setting(help="Print only errors and the summary.", flags=("--quiet", "-q"))]
Verbose = Annotated[bool, setting(help="Print every setting and note.", flags=("--verbose", "-v"))]
CheckpointsDir = Annotated[Path | None, checkpoints_dir_setting()]
Seed = Annotated[int, seed_setting()]
Card = Annotated[str | None, card_setting()]
Split = Annotated[str, split_setting()]
