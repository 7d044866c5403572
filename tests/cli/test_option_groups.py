"""Options are derived from the fields of dataclasses, and dataclasses are built from options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from cryoseg.cli.option_groups import Changes, Shown, expand
from cryoseg.config.setting import Settings, read_range, read_sizes, setting, write_range, write_sizes
from cryoseg.errors import ConfigError


class Color(StrEnum):
    RED = "red"
    BLUE = "dark-blue"


read_crop = read_sizes("ZxYxX", "6x64x64")


@dataclass(frozen=True, kw_only=True)
class Loop(Settings):
    panel: ClassVar[str] = "Loop"

    steps: int = setting(400, help="Steps.", at_least=1)
    seed: int = setting(0, help="Seed.")


@dataclass(frozen=True, kw_only=True)
class Draw(Settings):
    width_px: float = setting(help="Width.", flags=("--width", "-w", "--apix"))
    color: Color | None = setting(None, help="Color.", words={"navy": "dark-blue"}, shown="the model's")
    colors: tuple[Color, ...] = setting((Color.RED,), help="Colors.")
    crop: tuple[int, int, int] = setting((6, 64, 64), help="Crop.", read=read_crop, write=write_sizes)
    snr: tuple[float, float] | None = setting(None, help="SNR.", read=read_range, write=write_range)
    is_round: bool = setting(True, help="Round.")
    loop: Loop = field(default_factory=lambda: Loop(steps=9))
    hidden_number: int = 5


@dataclass(frozen=True, kw_only=True)
class Other(Settings):
    panel: ClassVar[str] = "Other"

    seed: int = setting(0, help="Seed.")


def call(function: Callable[..., None], *arguments: str) -> Any:
    single = typer.Typer()
    single.command()(expand(function))
    return CliRunner().invoke(single, list(arguments))


def options(function: Callable[..., None]) -> dict[str, Any]:
    single = typer.Typer(add_completion=False)
    single.command()(expand(function))
    command: Any = typer.main.get_command(single)
    return {one.opts[0]: one for one in command.params}


class TestConfig:
    def setup_method(self) -> None:
        self.given: list[Draw] = []

    def command(self) -> Callable[..., None]:
        def draw(config: Draw) -> None:
            self.given.append(config)

        return draw

    def test_nothing_given_is_the_default(self) -> None:
        assert call(self.command(), "-w", "3").exit_code == 0
        assert self.given == [Draw(width_px=3.0)]

    def test_every_kind_of_value_arrives(self) -> None:
        words = "--apix 3 --color navy --colors red --colors dark-blue --colors red --crop 8x32x48 --snr 2:3 "
        told = call(self.command(), *(words + "--no-is-round --steps 7 --seed 2").split())
        assert told.exit_code == 0, told.output
        assert self.given == [
            Draw(
                width_px=3.0,
                color=Color.BLUE,
                colors=(Color.RED, Color.BLUE),
                crop=(8, 32, 48),
                snr=(2.0, 3.0),
                is_round=False,
                loop=Loop(steps=7, seed=2),
            )
        ]

    def test_a_part_of_an_inner_dataclass_keeps_the_others(self) -> None:
        call(self.command(), "-w", "3", "--seed", "2")
        assert self.given[0].loop == Loop(steps=9, seed=2)

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            ("-w 3 --steps 0", "--steps 0: must be at least 1."),
            ("-w 3 --crop 8x8", "--crop 8x8: write ZxYxX, such as 6x64x64."),
        ],
    )
    def test_the_dataclass_refuses(self, words: str, sentence: str) -> None:
        error = call(self.command(), *words.split()).exception
        assert isinstance(error, ConfigError)
        assert str(error) == sentence

    @pytest.mark.parametrize(
        "words", ["", "-w 3 --color green", "-w 3 --colors navy", "-w 3 --hidden-number 4"]
    )
    def test_typer_refuses(self, words: str) -> None:
        assert call(self.command(), *words.split()).exit_code == 2
        assert self.given == []

    def test_the_help_tells_range_and_default(self) -> None:
        found = options(self.command())
        assert found["--width"].opts == ["--width", "-w", "--apix"]
        assert found["--width"].required
        assert found["--steps"].help == "Steps (at least 1)."
        assert (found["--steps"].default, found["--steps"].rich_help_panel) == (9, "Loop")
        assert (found["--color"].default, found["--color"].show_default) == (None, "the model's")
        assert found["--color"].metavar == "[red|dark-blue]"
        assert (found["--colors"].default, found["--colors"].show_default) == (None, "red")
        assert found["--crop"].default == "6x64x64"
        assert "--hidden-number" not in found


class TestChanges:
    def test_what_was_given_is_laid_over_a_base(self) -> None:
        given: list[Changes[Draw]] = []

        def draw(changes: Annotated[Changes[Draw], Shown({"steps": "the method's"})]) -> None:
            given.append(changes)

        assert call(draw, "-w", "3", "--steps", "5", "--is-round").exit_code == 0
        base = Draw(width_px=1.0, is_round=False, loop=Loop(steps=1, seed=8), hidden_number=7)
        assert given[0].over(base) == replace(base, width_px=3.0, is_round=True, loop=Loop(steps=5, seed=8))
        assert given[0].value("is_round") is True
        assert given[0].value("loop", "steps") == 5
        assert given[0].value("loop", "seed", default=4) == 4
        differing = given[0].differing()
        assert [name for name, is_other in differing.items() if is_other] == ["--width", "--steps"]
        found = options(draw)
        assert (found["--steps"].default, found["--steps"].show_default) == (None, "the method's")
        assert (found["--is-round"].default, found["--is-round"].show_default) == (None, "is-round")
        assert (found["--crop"].default, found["--crop"].show_default) == (None, "6x64x64")


def test_one_option_sets_all_dataclasses_that_have_it() -> None:
    given: list[tuple[Loop, Other]] = []

    def draw(loop: Loop = Loop(), other: Other = Other()) -> None:
        given.append((loop, other))

    assert call(draw, "--seed", "4").exit_code == 0
    assert given == [(Loop(seed=4), Other(seed=4))]
    assert options(draw)["--seed"].rich_help_panel is None


def test_one_option_cannot_be_two_things() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Third(Settings):
        seed: int = setting(0, help="Another seed.")

    def twice(loop: Loop = Loop(), third: Third = Third()) -> None: ...

    def beside(seed: int = 0, loop: Loop = Loop()) -> None: ...

    twice.__annotations__["third"] = Third
    for function in (twice, beside):
        with pytest.raises(TypeError, match="--seed is described in two ways"):
            expand(function)


def test_the_default_of_the_parameter_gives_the_defaults() -> None:
    given: list[Loop] = []

    def draw(loop: Loop = Loop(steps=30, seed=2)) -> None:
        given.append(loop)

    call(draw, "--seed", "3")
    assert given == [Loop(steps=30, seed=3)]
    assert options(draw)["--steps"].default == 30


def test_a_single_option_is_a_parameter_with_a_setting() -> None:
    given: list[tuple[float, tuple[Color, ...], bool]] = []

    def draw(
        *,
        width_px: Annotated[float, setting(help="Width.", flags=("--width", "-w"), above=0)],
        colors: Annotated[tuple[Color, ...], setting(help="Colors.")] = (Color.BLUE,),
        is_round: Annotated[bool, setting(help="Round.")] = True,
    ) -> None:
        given.append((width_px, colors, is_round))

    assert call(draw, "-w", "3").exit_code == 0
    assert call(draw, "--width", "4", "--colors", "red", "--no-is-round").exit_code == 0
    assert given == [(3.0, (Color.BLUE,), True), (4.0, (Color.RED,), False)]
    assert str(call(draw, "-w", "0").exception) == "--width 0: must be greater than 0."
    assert options(draw)["--width"].help == "Width (greater than 0)."
