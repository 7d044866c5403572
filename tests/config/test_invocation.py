"""The options of the running command, as records hold them."""

from __future__ import annotations

from pathlib import Path

from cryoseg.config.invocation import (
    Invocation,
    Repetition,
    current_invocation,
    current_repetition,
    invoked,
    note_written,
    recorded_options,
    repeating,
)

SEGMENT = Invocation(command="segment", options={"inputs": ["*.mrc"], "model": "auto", "preset": "v1"})


def test_one_output_has_the_given_options_but_for_its_own() -> None:
    with invoked(SEGMENT):
        recorded = recorded_options("segment", {"inputs": ["/a.mrc"], "model": None})
    assert recorded == {"options": {"inputs": ["/a.mrc"], "preset": "v1"}}
    assert SEGMENT.options["inputs"] == ["*.mrc"]


def test_a_python_program_and_another_command_record_none() -> None:
    assert recorded_options("segment", {"inputs": ["/a.mrc"]}) == {}
    with invoked(SEGMENT):
        assert recorded_options("simulate micrographs", {"count": 1}) == {}


def test_an_inner_command_ends_with_its_block() -> None:
    with invoked(Invocation(command="evaluate segmentation", options={})):
        with invoked(SEGMENT):
            assert current_invocation() == SEGMENT
        assert recorded_options("evaluate segmentation", {}) == {"options": {}}
    assert current_invocation() is None


def test_a_repetition_knows_what_was_written_while_it_ran() -> None:
    repetition = Repetition(record=Path("a.json"), content={})
    note_written(Path("before.json"))
    with repeating(repetition):
        note_written(Path("b.json"))
    note_written(Path("after.json"))
    assert repetition.written == [Path("b.json")]
    assert current_repetition() is None
