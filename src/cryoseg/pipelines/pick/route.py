"""Whether a model picks in micrographs or in tomograms."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cryoseg.errors import ConfigError
from cryoseg.io.inputs import expand_home, is_file
from cryoseg.methods.model_file import is_model_file, read_model_metadata
from cryoseg.methods.particles.files import METHOD


class Task(StrEnum):
    """What a model was trained on."""

    MICROGRAPHS = "micrographs"
    TOMOGRAMS = "tomograms"


def task_of(model: str) -> Task:
    """What a model, by name or file, picks in.

    Names, and checkpoints that are no model files of ours, are networks for micrographs.
    """
    path = expand_home(model)
    if is_file(path) and is_model_file(path) and read_model_metadata(path)["method"] != METHOD:
        return Task.TOMOGRAMS
    return Task.MICROGRAPHS


def refuse_options(given: Mapping[str, bool], model: str, task: Task) -> None:
    """Refuse options that mean nothing for a model's task.

    Parameters
    ----------
    given
        Option of the other task to whether the user gave it.
    model, task
        The model, and what it picks in.

    Raises
    ------
    ConfigError
        With the first such option.
    """
    other = Task.TOMOGRAMS if task is Task.MICROGRAPHS else Task.MICROGRAPHS
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{option}: is for {other}, and {model} picks in {task}. Leave it out, or pass a --model for "
                f"{other}."
            )
