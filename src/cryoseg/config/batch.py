"""Shards of a batch, and settings of clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of `count` equal parts of a list of inputs; `index` counts from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ConfigError(
                f"--shard {self.index}/{self.count}: give I/N with I from 1 to N, such as 1/4 to 4/4."
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read a shard from `I/N`."""
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if match is None:
            raise ConfigError(f"--shard {text}: give I/N, such as 1/4.")
        return cls(index=int(match[1]), count=int(match[2]))

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of this shard, which are every `count`-th one."""
        return list(items[self.index - 1 :: self.count])


ALL = Shard()

_SBATCH_OPTION = re.compile(r"-{0,2}([A-Za-z][\w-]*)(?:=(.*))?")
# Time limit of the default partition of many clusters.
DEFAULT_TIME = "08:00:00"


class ClusterKind(StrEnum):
    """Whether a batch runs in this process, or as an array of a cluster."""

    NONE = "none"
    SLURM = "slurm"


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Settings):
    """Settings of a batch that runs as an array of a cluster.

    Attributes
    ----------
    retries
        Number of times that a preempted or lost task is submitted again.
    poll_seconds
        Interval in seconds between two queries of the queue.
    """

    tasks: int = setting(
        1,
        help="Number of tasks of the array, each of which processes a part of the inputs.",
        flags=("--cluster-tasks",),
        at_least=1,
    )
    option_texts: tuple[str, ...] = setting(
        (),
        help="Long option of sbatch, such as partition=gpu; repeat for several.",
        flags=("--cluster-option",),
    )
    retries: int = 3
    poll_seconds: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_sbatch_options(self.option_texts)

    @property
    def options(self) -> dict[str, str]:
        """Options of sbatch by their long names: `partition`, `time`, `mem`, `gpus-per-node`."""
        return parse_sbatch_options(self.option_texts)


@dataclass(frozen=True, kw_only=True)
class ClusterChoice(ClusterConfig):
    """Whether a batch runs on a cluster, and the settings of the cluster."""

    cluster: ClusterKind = setting(
        ClusterKind.NONE,
        help="With slurm, run as an array of the cluster, wait for its end, and print one table.",
    )


def parse_sbatch_options(texts: Sequence[str]) -> dict[str, str]:
    """Read options such as `partition=gpu`; a flag such as `exclusive` has the value "".

    Raises
    ------
    ConfigError
        If a text has another form, or cryoseg sets the option itself.
    """
    options = {}
    for text in texts:
        match = _SBATCH_OPTION.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                f"--cluster-option {text}: give a long option of sbatch, such as partition=gpu."
            )
        if match[1] in ("array", "output", "error", "requeue", "no-requeue"):
            raise ConfigError(f"--cluster-option {text}: is set by cryoseg itself; leave it out.")
        options[match[1]] = match[2] or ""
    return options


def slurm_shard(environment: Mapping[str, str]) -> Shard | None:
    """Return the shard of a task of a Slurm array; None outside of arrays.

    An array of irregular numbers (`--array=1,5,7`) gives None, since the position of a task in the array is
    not known.

    Source: sbatch(1), output environment variables.
    """
    try:
        task, first, last, count = (
            int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "MAX", "COUNT")
        )
        step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError):
        return None
    if step < 1 or count < 2 or first + step * (count - 1) != last or (task - first) % step:
        return None
    index = (task - first) // step + 1
    return Shard(index=index, count=count) if 1 <= index <= count else None
