"""`cryoseg evaluate images`: score masks of ordinary pictures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit

from cryoseg.cli.options import Overwrite, Verbosity
from cryoseg.config.pictures import PUBLISHED_SIDE, PUBLISHED_SMOOTHING, Smoothing
from cryoseg.config.setting import setting

COLUMNS = ("dice", "iou", "mae", "s_measure", "e_measure", "f_beta", "weighted_f")


def images(
    pred: Annotated[Path, Argument(help="Predicted masks: a folder, or one picture.", show_default=False)],
    truth: Annotated[
        Path,
        Argument(help="True masks of equal names; folders inside are data sets.", show_default=False),
    ],
    *,
    smoothing: Smoothing = PUBLISHED_SMOOTHING,
    side: Annotated[
        int,
        setting(help="Score in squares of this side in pixels; 0 for the truth's own grid.", at_least=0),
    ] = PUBLISHED_SIDE,
    output: Annotated[
        tuple[Path, ...],
        setting(help="Write the scores too: .csv or .json; repeat for both.", flags=("--output", "-o")),
    ] = (),
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Score masks of pictures: Dice, IoU, MAE, S- and E-measure, F-beta, weighted F, per data set.

    Example: cryoseg evaluate images masks truth -o scores.csv
    """
    from cryoseg.events import Row, Status
    from cryoseg.pipelines.evaluate.images import evaluate_images, shown

    with verbosity.console() as console:
        evaluation = evaluate_images(
            pred,
            truth,
            smoothing=smoothing,
            side=side,
            outputs=output,
            command=shlex.join(sys.argv[1:]),
            overwrite=overwrite,
            on_event=console,
        )
    console.summary("Pictures", evaluation.report.rows, COLUMNS)
    means = [
        Row(name=dataset, status=Status.DONE, figures=shown(metrics))
        for dataset, metrics in evaluation.means.items()
    ]
    console.summary("Means over pictures", means, COLUMNS)
    raise Exit(evaluation.report.exit_status)
