"""Whether a model picks in micrographs or in tomograms."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cryoseg.errors import ConfigError
from cryoseg.io.inputs import expand_home, is_file
from cryoseg.methods.model_file import is_model_file, read_model_metadata
from cryoseg.methods.particles.files import METHOD


class Task(StrEnum):
    """Kind of the images on which a model was trained."""

    MICROGRAPHS = "micrographs"
    TOMOGRAMS = "tomograms"


def task_of(model: str) -> Task:
    """Return the images in which a model, given by name or file, picks particles.

    Names, and checkpoints that are not model files of cryoseg, are models for micrographs.
    """
    path = expand_home(model)
    if is_file(path) and is_model_file(path) and read_model_metadata(path)["method"] != METHOD:
        return Task.TOMOGRAMS
    return Task.MICROGRAPHS


def refuse_options(given: Mapping[str, bool], model: str, task: Task) -> None:
    """Refuse options of the other task that the user gave, by name.

    Raises
    ------
    ConfigError
        If such an option was given; the message names the first one.
    """
    other = Task.TOMOGRAMS if task is Task.MICROGRAPHS else Task.MICROGRAPHS
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{option}: is for {other}, and {model} picks in {task}. Leave it out, or pass a --model for "
                f"{other}."
            )
