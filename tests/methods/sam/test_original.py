"""The parts of segment_anything come without torchvision, and the whole package when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

PIPELINES = "cryoseg.pipelines.segment.files, cryoseg.pipelines.pick.micrograph_files"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_segment_and_pick_begin_without_slow_packages() -> None:
    slow = {"pandas", "starfile", "torchvision", "torch._dynamo", "skimage", "scipy.optimize"}
    code = f"import sys, {PIPELINES}; print(*sorted({slow} & set(sys.modules)))"
    assert run(code).split() == []


def test_package_is_complete_for_others() -> None:
    code = (
        "from cryoseg.methods.sam.original import Sam; import segment_anything, segment_anything.modeling;"
        "assert segment_anything.modeling.Sam is Sam;"
        "from segment_anything import SamAutomaticMaskGenerator, sam_model_registry;"
        "print(sorted(sam_model_registry), hasattr(segment_anything, 'nothing'))"
    )
    assert run(code).strip() == "['default', 'vit_b', 'vit_h', 'vit_l'] False"


def test_an_imported_package_stays() -> None:
    code = (
        "import segment_anything; from cryoseg.methods.sam.original import Sam;"
        "print(segment_anything.modeling.Sam is Sam)"
    )
    assert run(code).strip() == "True"


def test_a_missing_package_is_named() -> None:
    from cryoseg.methods.sam.original import defer_package

    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        defer_package("no_such_package")
