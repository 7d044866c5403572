"""Build wheel and sdist, compare them, install the wheel into an empty environment, and use it there.

`python .ci/check_wheel.py FOLDER full|smoke PYTHON...` works in FOLDER, which lies outside the checkout:
with each interpreter it makes an environment, installs the wheel and runs commands in an empty folder. `full`
goes through doctor, segment, evaluate and pick on the samples; `smoke` shows that the package works with
another Python. A FOLDER that holds a wheel from an earlier call is not built into again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LARGEST_WHEEL_BYTES = 40e6
IN_WHEEL = (
    "cryoseg/cli/app.py",
    "cryoseg/weights/membrane_tiny.safetensors",
    "cryoseg/weights/particle_mixed.safetensors",
    "cryoseg/weights/particle_tiny.safetensors",
    "cryoseg/samples/sample_0000_tomogram.mrc",
    "cryoseg/samples/particles_0002_micrograph.mrc",
    "cryoseg/napari/napari.yaml",
    "licenses/LICENSE",
    "licenses/NOTICE",
    "entry_points.txt",
)
IN_SDIST = (
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "NOTICE",
    "tests/conftest.py",
    "mkdocs.yml",
)
FULL = """
cryoseg --version
cryoseg --help
cryoseg doctor
cryoseg segment "$(cryoseg sample tomogram)" --post-process --preview -o membranes
test -s membranes/sample_0000_tomogram_membrane_post_processed_mask.mrc
test -s membranes/sample_0000_tomogram_membrane_preview.png
cryoseg evaluate segmentation membranes/sample_0000_tomogram_membrane_mask.mrc "$(cryoseg sample labels)"
cryoseg pick "$(cryoseg sample micrograph)" --particle-diameter 180 -f star -o picks
cryoseg evaluate picks picks/*_particles.star "$(cryoseg sample particles)" --radius 12px
"""
# A network, the readers and the lazily imported names: what another Python could break.
SMOKE = """
cryoseg --version
cryoseg --help
cryoseg weights list
cryoseg convert "$(cryoseg sample particles)" particles.csv
test -s particles.csv
cryoseg simulate tomograms --help
cryoseg pick "$(cryoseg sample micrograph)" --particle-diameter 180 -f star -o picks
cryoseg evaluate picks picks/*_particles.star "$(cryoseg sample particles)" --radius 12px
python -c "import cryoseg; cryoseg.segment_tomogram, cryoseg.read_tomogram, cryoseg.evaluate_mask"
"""


def refuse(sentence: str) -> None:
    raise SystemExit(f"wheel: {sentence}")


def megabytes(path: Path) -> str:
    return f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)"


def told(label: str, begun: float) -> None:
    print(f"-- {label}: {time.monotonic() - begun:.0f} s", flush=True)


def build(folder: Path) -> Path:
    """The wheel of the sdist, after both were compared with what the checkout gives."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder / "from-sdist", REPOSITORY], check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder / "direct", REPOSITORY], check=True
    )
    (wheel,), (direct,) = (list((folder / name).glob("*.whl")) for name in ("from-sdist", "direct"))
    (sdist,) = (folder / "from-sdist").glob("*.tar.gz")
    ours, theirs = contents(wheel), contents(direct)
    if ours != theirs:
        refuse(
            f"the sdist builds another wheel than the checkout: {sorted(ours.items() ^ theirs.items())[:10]}."
        )
    check_contents(wheel, sdist, set(ours))
    told(f"build of {megabytes(wheel)} and {megabytes(sdist)}", begun)
    return wheel


def contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def check_contents(wheel: Path, sdist: Path, names: set[str]) -> None:
    if wheel.stat().st_size > LARGEST_WHEEL_BYTES:
        refuse(f"{megabytes(wheel)} is larger than {LARGEST_WHEEL_BYTES / 1e6:.0f} MB.")
    missing = [name for name in IN_WHEEL if not any(found.endswith(name) for found in names)]
    if missing:
        refuse(f"{wheel.name} lacks {', '.join(missing)}.")
    strangers = [name for name in names if not name.startswith(("cryoseg/", "cryoseg-"))]
    strangers += [name for name in names if name.endswith((".pyc", ".npz")) or "/tests/" in name]
    if strangers:
        refuse(f"{wheel.name} holds {', '.join(sorted(strangers)[:10])}, which do not belong there.")
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    missing = [name for name in IN_SDIST if name not in found]
    if missing:
        refuse(f"{sdist.name} lacks {', '.join(missing)}.")


def use(wheel: Path, python: str, folder: Path, script: str) -> None:
    """Install the wheel alone into an empty environment, and run the commands far from the checkout."""
    version = subprocess.check_output(
        [python, "-c", "import platform; print(platform.python_version())"], text=True
    )
    label = f"Python {version.strip()}"
    environment, elsewhere = folder / "environment", folder / "elsewhere"
    begun = time.monotonic()
    subprocess.run([python, "-m", "venv", environment], check=True)
    program = environment / "bin" / "python"
    # What is never imported need not be compiled.
    install = [program, "-m", "pip", "install", "--quiet", "--no-compile", wheel]
    subprocess.run(install, check=True, cwd=folder)
    subprocess.run([program, "-m", "pip", "check"], check=True, cwd=folder)
    told(f"{label}: install", begun)
    begun = time.monotonic()
    elsewhere.mkdir()
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    variables["XDG_CACHE_HOME"] = str(folder / "cache")
    for command in script.strip().splitlines():
        print(f"$ {command}", flush=True)
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, cwd=elsewhere, env=variables)
    where = subprocess.check_output(
        [program, "-c", "import cryoseg; print(cryoseg.__file__)"], text=True, cwd=elsewhere, env=variables
    )
    if not where.startswith(str(environment)):
        refuse(f"{label}: the commands ran {where.strip()} and not the installed package.")
    told(f"{label}: {'everything' if script is FULL else 'smoke set'}", begun)
    shutil.rmtree(environment)


def main(folder: str, kind: str, *pythons: str) -> None:
    root = Path(folder).resolve()
    if root.is_relative_to(REPOSITORY):
        refuse(f"{root} lies in the checkout; name a folder outside it.")
    built = sorted((root / "from-sdist").glob("*.whl"))
    wheel = built[0] if built else build(root)
    for python in pythons:
        room = root / f"{kind}-{Path(python).parent.parent.name}-{Path(python).name}"
        room.mkdir(parents=True)
        use(wheel, python, room, FULL if kind == "full" else SMOKE)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as error:
        refuse(f"{' '.join(map(str, error.cmd))!r} ended with status {error.returncode}.")
