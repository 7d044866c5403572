"""`cryoseg simulate lesions`."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from cryoseg.cli.options import Count, OutputDir, Overwrite, Prefix, Quiet, Seed, Verbose
from cryoseg.cli.simulate_micrographs import _shape
from cryoseg.config.simulate_lesions import SimulateLesionsConfig


def lesions(
    output_dir: OutputDir,
    count: Count = 10,
    seed: Seed = 0,
    shape: Annotated[str, Option(help="Pixels, YxX.")] = "x".join(map(str, SimulateLesionsConfig.shape)),
    prefix: Prefix = "lesion",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate color pictures of skin lesions with exact masks, to try promise and segment-image on.

    Writes images/lesion_0000.png, masks/lesion_0000.png, records/lesion_0000.json and lesions.csv, the list
    that `cryoseg train promise` takes. Interrupted runs go on where they stopped.

    Example: cryoseg simulate lesions -o skin -n 100 --seed 1
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.pipelines.events import Row, StageProgress, Status
    from cryoseg.simulate.lesions import LIST, simulate_lesion_folder

    config = SimulateLesionsConfig(shape=_shape(shape), seed=seed)
    rows: list[Row] = []
    with batch_console(quiet=quiet, verbose=verbose) as console:
        outcomes = simulate_lesion_folder(config, output_dir, count=count, overwrite=overwrite, prefix=prefix)
        for done, outcome in enumerate(outcomes, start=1):
            record = outcome.record
            rows.append(
                Row(
                    name=outcome.row.image.name,
                    status=Status.DONE if outcome.made else Status.SKIPPED,
                    seconds=outcome.seconds,
                    figures={
                        "for": outcome.row.split.value,
                        "lesion": f"{100 * record['lesion_share']:.1f} %",
                        "hairs": str(record["hairs"]),
                        "rim": "yes" if record["field_radius_px"] else "no",
                    },
                    outputs=(outcome.row.image, outcome.row.mask),
                    message="" if outcome.made else "kept",
                )
            )
            console(
                StageProgress(
                    name=str(output_dir), stage="simulating", done=done, total=count, unit="pictures"
                )
            )
        console.summary("Simulated lesions", rows)
        console.out.print(f"{output_dir / LIST}: {count} pictures", markup=False)
