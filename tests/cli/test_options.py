"""The same option has the same name, unit, default and help in every command."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from inspect import Parameter
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import typer

from cryoseg.cli.app import app
from cryoseg.cli.option_groups import Changes, Shown
from cryoseg.config.setting import Setting, option_of, setting_of

ROOT: Any = typer.main.get_command(app)

METHOD = "each method, recipe or model has its own, which the help tells"
PUBLISHED = "the default of evaluate is what the publication scores with"
WITH_MODEL = "in evaluate it belongs to --model, and its help says so"
TWO_THINGS = "names another thing there, for which the word is the usual one"
RANGE = "simulate draws from a range, given as LOW:HIGH"
FOLDER_OR_FILE = "a folder in commands that write many files, a file in those that write one"
RUN = "a run's folder is gone on with, and has no default that suits"
# What may differ, and why. "default" includes the words that stand for it in the help.
EXCEPTIONS: dict[str, tuple[set[str], str]] = {
    "--apix": ({"help", "default", "type"}, RANGE),
    "--base": (
        {"help", "default", "type"},
        "what to adapt in train; what a model was adapted from elsewhere",
    ),
    "--batch": ({"default"}, METHOD),
    "--checkpoint": ({"help", "default"}, "every command names the models that it takes"),
    "--clip-length": ({"help", "default"}, METHOD + "; ETSAM's memory needs two slices"),
    "--format": ({"help", "default", "type"}, "several formats from pick, one from convert"),
    "--freeze": ({"help", "default", "type"}, TWO_THINGS),
    "--labels": ({"help", "default", "type"}, TWO_THINGS),
    "--learning-rate": ({"default"}, METHOD),
    "--logit-threshold": ({"help", "default"}, METHOD + "; in view it is where the slider begins"),
    "--mask": ({"help"}, "view draws it, others restrict by it"),
    "--model": ({"help", "default"}, "every command names the models that it takes"),
    "--morphology": ({"default"}, PUBLISHED),
    "--name": ({"help", "default"}, TWO_THINGS),
    "--out-folder": ({"default"}, "data sets have a folder of their own, a rerun that of its record"),
    "--output": ({"help", "default", "type"}, FOLDER_OR_FILE),
    "--output-dir": ({"help", "default"}, RUN),
    "--particle-diameter": ({"help", "default", "type"}, RANGE + "; needed for cet-pick"),
    "--particle-diameter-px": ({"help", "default", "type"}, RANGE + "; convert writes it"),
    "--precision": ({"help", "default", "type"}, TWO_THINGS),
    "--picks": (
        {"help", "default", "type"},
        "needed for cet-pick, one of two ways in others; one file in view",
    ),
    "--pixel-size": ({"help", "default", "type"}, RANGE),
    "--polarity": ({"help", "default", "type"}, METHOD + "; a simulation chooses it"),
    "--post-process": ({"help"}, WITH_MODEL),
    "--post-process-min-slices": ({"help", "default"}, "in view it is where the slider begins"),
    "--points": ({"help", "default", "type"}, TWO_THINGS),
    "--prepare": ({"default"}, "segment-image does what the model was trained with"),
    "--preset": ({"help", "default", "type"}, WITH_MODEL + "; of cet-pick, " + TWO_THINGS),
    "--preview": ({"help", "default"}, "every command names what it draws; pick draws without being asked"),
    "--prompts": ({"help", "default", "type"}, TWO_THINGS),
    "--recipe": ({"type"}, TWO_THINGS),
    "--sam2-config": ({"default"}, METHOD),
    "--score-threshold": ({"default"}, METHOD),
    "--seed": ({"default"}, METHOD),
    "--shape": ({"help", "default"}, "two axes or three"),
    "--side": ({"help", "default", "type"}, TWO_THINGS),
    "--snr": ({"help", "default", "type"}, RANGE),
    "--spacing": ({"help", "default", "type"}, "a length with its unit in pick"),
    "--split": ({"help", "default", "type"}, TWO_THINGS),
    "--stage1": ({"help", "default"}, TWO_THINGS),
    "--start": ({"help"}, "train sam begins with model files only"),
    "--step": ({"default"}, METHOD),
    "--steps": ({"default"}, METHOD),
    "--thickness-axis": ({"default"}, "pick takes the model's"),
    "--tilt-range": ({"help", "default", "type"}, "measure takes both ends"),
    "--tomogram": ({"help"}, "measure reads its density, convert its size"),
    "--validate-every": ({"default"}, METHOD),
    "--validation": ({"default"}, METHOD),
    "--voxel-size": ({"help", "default", "type"}, RANGE),
}


def leaves(group: Any, words: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(leaves(ROOT))


def spelled(default: Any, told: Any) -> str:
    if isinstance(told, str):
        return told
    if default is None or default is False:
        return ""
    return str(default.value) if isinstance(default, Enum) else str(default)


def aspects(parameter: Any) -> dict[str, str]:
    described = getattr(parameter, "type_descriptor", None)  # typer's own since 0.2x, click's before
    kind = described.annotation if described is not None else parameter.type
    return {
        "help": parameter.help,
        "default": spelled(parameter.default, parameter.show_default),
        "type": f"{kind} {parameter.multiple}",
    }


def uses() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Option name to aspect to text to the commands that have it so."""
    found: dict[str, dict[str, dict[str, list[str]]]] = defaultdict(lambda: defaultdict(dict))
    for words, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.param_type_name != "option" or parameter.hidden:
                continue
            for name in (one for one in parameter.opts if one.startswith("--")):
                for aspect, text in aspects(parameter).items():
                    found[name][aspect].setdefault(text, []).append(words)
    return found


def test_one_option_is_one_thing_in_every_command() -> None:
    strays = []
    for name, by_aspect in sorted(uses().items()):
        allowed, _ = EXCEPTIONS.get(name, (set(), ""))
        for aspect, texts in by_aspect.items():
            if len(texts) > 1 and aspect not in allowed:
                strays.append(f"{name}: {aspect}: {texts}")
    assert not strays, "share the definition (cli/options.py) or give a reason here:\n" + "\n".join(strays)


def test_no_exception_is_without_need() -> None:
    found = uses()
    idle = [
        (name, aspect)
        for name, (allowed, reason) in EXCEPTIONS.items()
        for aspect in allowed
        if not reason or len(found[name][aspect]) < 2
    ]
    assert not idle


# Options that no field describes, and why.
NOT_DERIVED = {
    "--config": "every command has it, whatever it takes",
    "--output-dir": "of a training: it leaves the command's options in the run's folder, however that ends",
}


def described(command: Any) -> dict[str, tuple[Setting, Any]]:
    """Option name to its setting and default, from the signature of a command's own function."""
    found: dict[str, tuple[Setting, Any]] = {}
    function = inspect.unwrap(command.callback)
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, *about = get_args(parameter.annotation) or (parameter.annotation,)
        if get_origin(kind) is Changes:
            (kind,) = get_args(kind)
        if about and isinstance(about[0], Field):
            setting = setting_of(about[0])
            assert setting is not None
            found[option_of(about[0], name)] = setting, parameter.default
        elif is_dataclass(kind):
            base = next((one.base for one in about if isinstance(one, Shown)), None)
            found |= of_fields(kind, parameter.default if is_dataclass(parameter.default) else base)
    return found


def of_fields(kind: Any, base: Any) -> dict[str, tuple[Setting, Any]]:
    found: dict[str, tuple[Setting, Any]] = {}
    hints = get_type_hints(kind)
    for one in fields(kind):
        made = one.default_factory() if callable(one.default_factory) else one.default
        default = made if base is None else getattr(base, one.name)
        if (setting := setting_of(one)) is not None:
            found[option_of(one)] = setting, default
        elif is_dataclass(hints[one.name]):
            found |= of_fields(hints[one.name], default if is_dataclass(default) else None)
    return found


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_says_what_its_field_says(words: str) -> None:
    command = COMMANDS[words]
    settings = described(command)
    options = {one.opts[0]: one for one in command.params if one.param_type_name == "option"}
    assert set(options) - set(settings) <= set(NOT_DERIVED)
    assert set(settings) <= set(options)
    for name, (setting, default) in settings.items():
        option = options[name]
        assert setting.help.removesuffix(".") in option.help
        assert setting.limits in option.help
        assert option.hidden == setting.hidden
        assert {flag for flags in setting.flags for flag in flags.split("/")} <= {
            *option.opts,
            *option.secondary_opts,
        }
        if default in (MISSING, Parameter.empty):
            assert option.required
        elif option.default is not None:
            typed = option.default
            assert (setting.read(typed, option=name) if setting.read else typed) == default
        elif default not in (None, (), False):
            assert isinstance(option.show_default, str)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_help_has_an_example_and_every_option_a_text(words: str) -> None:
    command = COMMANDS[words]
    assert f"cryoseg {words}" in (command.help or "")
    silent = [p.name for p in command.params if not p.help and not getattr(p, "hidden", False)]
    assert not silent


def test_a_length_names_its_unit() -> None:
    units = ("angstrom", "pixel", "voxel", "slice", "LOW:HIGH", "diameters", "widths", "30A")
    words = (
        "distance",
        "diameter",
        "border",
        "spacing",
        "pixel-size",
        "length",
        "-len",
        "low-pass",
        "margin",
    )
    vague = [
        name
        for name, by_aspect in uses().items()
        if any(word in name for word in words)
        for text in by_aspect["help"]
        if not any(unit in text for unit in units)
    ]
    assert not vague


def test_the_pixel_size_has_its_three_names_wherever_it_is_asked_for() -> None:
    names = {"--pixel-size", "--voxel-size", "--apix"}
    asked = [set(one.opts) & names for command in COMMANDS.values() for one in command.params]
    assert all(found in (set(), names) for found in asked)
    assert sum(bool(found) for found in asked) > 8


def test_completion_in_bash_offers_commands_and_options() -> None:
    code = "from cryoseg.cli.app import main; import sys; sys.argv[0] = 'cryoseg'; main()"
    for typed, offered in (("cryoseg seg", "segment"), ("cryoseg segment --logit-th", "--logit-threshold")):
        environment = {
            **os.environ,
            "_CRYOSEG_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        }
        outcome = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        assert offered in outcome.stdout.split(), outcome.stderr
