"""`cryoseg evaluate images`: score masks of ordinary pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit

from cryoseg.cli.evaluate.options import model_output_setting
from cryoseg.cli.options import Device, Overwrite, Verbosity
from cryoseg.config.pictures import PUBLISHED_SIDE, PUBLISHED_SMOOTHING, Smoothing, points_setting
from cryoseg.config.setting import setting
from cryoseg.errors import ConfigError

COLUMNS = ("dice", "iou", "mae", "s_measure", "e_measure", "f_beta", "weighted_f")


def images(
    pred: Annotated[
        Path,
        Argument(help="Predicted masks, or with --model pictures: a folder or one file.", show_default=False),
    ],
    truth: Annotated[
        Path,
        Argument(help="True masks of equal names; folders inside are data sets.", show_default=False),
    ],
    *,
    smoothing: Smoothing = PUBLISHED_SMOOTHING,
    model: Annotated[
        str | None,
        setting(help="Segment PRED with this model first, as segment-image does.", shown="PRED are masks"),
    ] = None,
    base: Annotated[
        Path | None, setting(help="The SAM it was trained on.", shown="by name, or beside the model")
    ] = None,
    points: Annotated[Path | None, points_setting()] = None,
    model_output: Annotated[Path, model_output_setting()] = Path(),
    device: Device = "auto",
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

    Upper bound: cryoseg evaluate images pictures truth --model MODEL --points truth
    """
    from cryoseg.events import Row, Status
    from cryoseg.io.outputs import check_outputs
    from cryoseg.pipelines.evaluate.images import SUFFIXES, evaluate_images, shown, write_picture_scores

    if points is not None and model is None:
        raise ConfigError("--points: needs --model, whose points are taken from these masks.")
    check_outputs(output, SUFFIXES, overwrite=overwrite)
    with verbosity.console() as console:
        if model is not None:
            from cryoseg.methods.device import select_device
            from cryoseg.methods.particles.model import load_particle_model
            from cryoseg.pipelines.evaluate.picture_model import segment_pictures

            pred = segment_pictures(
                pred,
                model_output,
                load_particle_model(model, select_device(device), base=base),
                points=points,
                overwrite=overwrite,
                on_event=console,
            )
        evaluation = evaluate_images(pred, truth, smoothing=smoothing, side=side, on_event=console)
    write_picture_scores(output, evaluation, overwrite=overwrite)
    console.summary("Pictures", evaluation.report.rows, COLUMNS)
    means = [
        Row(name=dataset, status=Status.DONE, columns=shown(metrics))
        for dataset, metrics in evaluation.means.items()
    ]
    console.summary("Means over pictures", means, COLUMNS)
    raise Exit(evaluation.report.exit_status)
