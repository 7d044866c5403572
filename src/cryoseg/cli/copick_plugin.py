"""`copick inference cryoseg`: the commands of cryoseg within the command line of copick.

copick loads this module from the entry points of the group `copick.inference.commands`. It takes commands
of click, which it depends on; nothing else imports this module.
"""

from __future__ import annotations

import sys

import click

_INPUTS = {
    "segment": "tomogram",
    "pick": "tomogram",
    "postprocess": "segmentation",
    "measure": "segmentation",
}


@click.group()
def cryoseg() -> None:
    """Segment, pick and measure with cryoseg, and store the results in the project."""


def _command(name: str, kind: str) -> click.Command:
    form = "TYPE@VOXEL, such as wbp@10" if kind == "tomogram" else "NAME:USER/SESSION@VOXEL"

    @click.command(
        name,
        help=f"Run `cryoseg {name}` on every run of a copick project. All other options are those of "
        f"`cryoseg {name}`.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    @click.option("-c", "--config", required=True, envvar="COPICK_CONFIG", help="File of the project.")
    @click.option("-r", "--run-names", default="*", help="Runs, with wildcards, separated by commas.")
    @click.option("-i", "--input", "source", required=True, help=f"The {kind} of each run: {form}.")
    @click.option("-o", "--output", "target", required=True, help="The result: NAME:USER/SESSION.")
    @click.pass_context
    def run(context: click.Context, config: str, run_names: str, source: str, target: str) -> None:
        from cryoseg.cli.app import main

        uri = f"copick://{config}?run={run_names}&{kind}={source}"
        sys.argv = ["cryoseg", name, uri, "--copick", target, *context.args]
        main()

    return run


for _name, _kind in _INPUTS.items():
    cryoseg.add_command(_command(_name, _kind))
