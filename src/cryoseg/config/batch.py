"""Which part of a batch a process does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

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
