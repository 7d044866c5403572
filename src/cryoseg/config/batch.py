"""Which part of a batch a process does."""

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
    """One of `count` equal parts of a list of inputs, counted from 1."""

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
        """Read `I/N`.

        Raises
        ------
        ConfigError
            If it is not of that form, or I is not among 1 to N.
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if match is None:
            raise ConfigError(f"--shard {text}: give I/N, such as 1/4.")
        return cls(index=int(match[1]), count=int(match[2]))

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every `count`-th item; the shards of one list share none and leave none out."""
        return list(items[self.index - 1 :: self.count])


ALL = Shard()

_SBATCH_OPTION = re.compile(r"-{0,2}([A-Za-z][\w-]*)(?:=(.*))?")
# A limit of our own would be wrong on every cluster; this one is that of many default partitions.
DEFAULT_TIME = "08:00:00"


class ClusterKind(StrEnum):
    """Where a batch runs: here, or as an array of a cluster."""

    NONE = "none"
    SLURM = "slurm"


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Settings):
    """How a batch runs as an array of a cluster.

    Attributes
    ----------
    retries
        How often a task that was preempted or lost is submitted again.
    poll_seconds
        Seconds between two looks at the queue.
    """

    tasks: int = setting(
        1, help="Number of tasks of the array; each does a shard.", flags=("--cluster-tasks",), at_least=1
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
    """Whether a batch runs here or on a cluster, and how it runs there."""

    cluster: ClusterKind = setting(
        ClusterKind.NONE, help="slurm: run as an array of the cluster, wait for it and print one table."
    )


def parse_sbatch_options(texts: Sequence[str]) -> dict[str, str]:
    """Read `partition=gpu` and the like; a flag without a value, such as `exclusive`, has the value "".

    Raises
    ------
    ConfigError
        For another form, or an option that is set here already.
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
    """The shard that a task of a Slurm array does, or None outside of one.

    An array of irregular numbers (`--array=1,5,7`) gives None, since Slurm does not tell a task how
    many of its fellows come before it.

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
