"""`cryoseg simulate lesions`."""

from __future__ import annotations

from typing import Annotated

from typer import Option, echo

from cryoseg.cli.options import Count, OutputDir, Overwrite, Prefix, Quiet, Seed, Verbose
from cryoseg.cli.simulate.micrographs import _shape
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
    from cryoseg.cli.simulate.run import made_row, show_made
    from cryoseg.events import Row
    from cryoseg.simulate.lesions import LIST, LesionOutcome, simulate_lesion_folder

    config = SimulateLesionsConfig(shape=_shape(shape), seed=seed)

    def describe(outcome: LesionOutcome) -> Row:
        record = outcome.record
        return made_row(
            outcome.row.image.name,
            made=outcome.made,
            seconds=outcome.seconds,
            figures={
                "for": outcome.row.split.value,
                "lesion": f"{100 * record['lesion_share']:.1f} %",
                "hairs": str(record["hairs"]),
                "rim": "yes" if record["field_radius_px"] else "no",
            },
            outputs=(outcome.row.image, outcome.row.mask),
        )

    show_made(
        "Simulated lesions",
        simulate_lesion_folder(config, output_dir, count=count, overwrite=overwrite, prefix=prefix),
        describe,
        folder=output_dir,
        count=count,
        unit="pictures",
        quiet=quiet,
        verbose=verbose,
    )
    echo(f"{output_dir / LIST}: {count} pictures")
