#!/usr/bin/env bash
# Tests and measurements on a machine with one GPU, PyTorch and no network.
#
#   benchmarks/gpu_kit.sh pack [3.12]      here: collect wheels for that Python in benchmarks/wheels
#   benchmarks/gpu_kit.sh run [RESULTS]    there, in the same tree: install, test and measure in 12 minutes
#
# `pack` runs in an environment with cryoseg[dev], whose versions it takes. It leaves out what a machine with
# PyTorch has (`has` below), and Zarr, which nothing measured here reads. `run` writes results and logs into RESULTS, by default $OUT or gpu_results.
#   CRYOSEG_GPU_SECONDS=540 benchmarks/gpu_kit.sh run    takes nine minutes instead of twelve
#   CRYOSEG_TEST_DEVICE=cpu benchmarks/gpu_kit.sh run    rehearses with tiny sizes on a CPU
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=$PWD/benchmarks/wheels
source_only='iopath|antlr4-python3-runtime'
most_mebibytes=60
seconds_at_most=${CRYOSEG_GPU_SECONDS:-720}
has="torch torchvision numpy scipy pandas pyarrow scikit-image pillow setuptools tensorboard huggingface-hub rich
  safetensors fsspec h5py pyyaml pygments tqdm packaging typing-extensions cloudpickle lightning-utilities zarr"

pack() {
  local python=${1:-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')} platform tree
  local platforms=()
  for platform in manylinux_2_{5..39}_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do
    platforms+=(--platform "$platform")
  done
  rm -rf "$wheels"
  mkdir -p "$wheels"
  # Published as source only; with its CUDA extension sam2 would depend on this machine.
  SAM2_BUILD_CUDA=0 python3 -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$wheels" \
    "$(grep -o 'sam2==[0-9.]*' pyproject.toml)"
  any_python "$wheels"/sam2-*.whl
  packages >"$wheels/all.txt"
  grep -E "^($source_only)==" "$wheels/all.txt" | xargs python3 -m pip wheel --quiet --no-deps --wheel-dir "$wheels"
  grep -vE "^(sam2|$source_only)==" "$wheels/all.txt" >"$wheels/packages.txt"
  python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "$python" \
    "${platforms[@]}" --dest "$wheels" --requirement "$wheels/packages.txt"
  tree=$({ git ls-files -z; find benchmarks/wheels -type f -print0; } | xargs -0 cat | wc -c)
  echo "$(find "$wheels" -name '*.whl' | wc -l) wheels for Python $python; $((tree / 1048576)) MiB with the tree"
  if ((tree > most_mebibytes * 1048576)); then
    echo "The tree and its wheels take more than $most_mebibytes MiB." >&2
    return 1
  fi
}

any_python() { # name a wheel without compiled modules as one for every Python
  [[ $1 == *-cp* ]] || return 0
  if unzip -l "$1" | grep -q '\.so$'; then
    echo "$1 contains compiled modules for this Python only." >&2
    return 1
  fi
  mv "$1" "$(echo "$1" | sed -E 's/-cp[^/]*$/-py3-none-any.whl/')" # pip reads the tags in the name
}

packages() { # what cryoseg and its tests need, in the versions of this environment, without HAS
  has="$has" python3 - <<'PYTHON'
import os
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HAS = set(os.environ["has"].split())
TESTS = ["pytest", "pytest-xdist", "tensordict", "lightning-fabric"]
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted, found = [*project["dependencies"], *TESTS], {}
while wanted:
    one = Requirement(wanted.pop())
    name = canonicalize_name(one.name)
    if name in HAS or name in found or one.marker and not one.marker.evaluate({"extra": ""}):
        continue
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        continue
    wanted += requires(name) or []
print("\n".join(f"{name}=={found[name]}" for name in sorted(found)))
PYTHON
}

install() { # into an environment that sees the packages of the machine, also if python3 is of an environment
  python3 -m venv --system-site-packages --without-pip "$work/venv"
  local packages='import sysconfig; print(sysconfig.get_path("purelib"))'
  python3 -c "$packages" >"$("$work/venv/bin/python" -c "$packages")/machine.pth"
  python3 - >"$work/requirements.txt" <<'PYTHON'
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
needed = [one for one in project["dependencies"] if not one.startswith("zarr")]
print("\n".join([*needed, "pytest", "pytest-xdist", "tensordict", "lightning-fabric", "tensorboard"]))
PYTHON
  "$work/venv/bin/python" -m pip install --no-index --find-links "$wheels" --no-cache-dir \
    --requirement "$work/requirements.txt"
}

run() {
  local results=${1:-${OUT:-gpu_results}} device=cuda small=() status=0 left
  mkdir -p "$results"
  results=$(cd "$results" && pwd)
  if [[ -n ${CRYOSEG_TEST_DEVICE:-} ]]; then
    device=$CRYOSEG_TEST_DEVICE
    small=(--small)
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  export PYTHONUNBUFFERED=1
  install 2>&1 | tee "$results/install.log"
  # shellcheck disable=SC1091
  source "$work/venv/bin/activate"
  export PYTHONPATH=$PWD/src
  echo "installed after $SECONDS s"
  # The tests come first and leave half of the time to the measurements.
  timeout $((seconds_at_most / 2)) env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=2 \
    python -m pytest -p xdist -n 8 --dist worksteal -v -m gpu tests/gpu --durations=10 2>&1 |
    tee "$results/tests.log" || status=1
  echo "tested after $SECONDS s"
  left=$((seconds_at_most - SECONDS))
  timeout $left python benchmarks/gpu.py "$results/measurements" --device "$device" "${small[@]}" \
    --minutes $((left / 60 - 1)) 2>&1 | tee "$results/benchmark.log" || status=1
  python benchmarks/gpu.py "$results/measurements" --table | tee "$results/table.md" || status=1
  # One file is easier to carry than ten.
  python - "$results" <<'PYTHON'
import json, shutil, sys
from pathlib import Path
folder = Path(sys.argv[1])
files = sorted(folder.glob("measurements/*.json"))
(folder / "measurements.json").write_text(json.dumps({one.stem: json.loads(one.read_text()) for one in files}, indent=2))
shutil.rmtree(folder / "measurements")
PYTHON
  echo "done after $SECONDS s, status $status"
  return $status
}

case ${1:-} in
  pack | run) "$@" ;;
  *)
    sed -n '2,/^set/p' "$0" | grep '^#' >&2
    exit 2
    ;;
esac
