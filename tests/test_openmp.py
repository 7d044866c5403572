"""Threads of the networks wait briefly, unless the user chose a policy."""

import os
import subprocess
import sys

import pytest

from cryoseg.openmp import CHOICES, SHORT_WAIT, shorten_waits


def test_short_waits_are_set_where_the_user_chose_nothing() -> None:
    environment = {"HOME": "/"}
    shorten_waits(environment)
    assert environment == {"HOME": "/", **SHORT_WAIT}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_of_the_user_is_kept(name: str) -> None:
    environment = {name: "ACTIVE"}
    shorten_waits(environment)
    assert environment == {name: "ACTIVE"}


@pytest.mark.parametrize("policy", [None, "ACTIVE"])
def test_a_command_sets_them_before_torch_is_imported(policy: str | None) -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
sys.argv = ["cryoseg", "segment", "no_such_file.mrc", "-q"]
from cryoseg.cli.app import main
main()
"""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    expected = "None ACTIVE" if policy else f"{SHORT_WAIT['GOMP_SPINCOUNT']} None"
    assert done.stdout.splitlines()[0] == expected, done.stderr
