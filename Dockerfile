# Not built here: compared with pyproject.toml by tests/contracts/test_packaging.py, and never built by our tests.
#   docker build -t cryoseg .
#   docker run --rm --gpus all -v "$PWD":/data cryoseg segment tomo.mrc --post-process -o membranes
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1
# sam2's CUDA extension needs a compiler; nothing of cryoseg calls it.
ENV SAM2_BUILD_CUDA=0

WORKDIR /opt/cryoseg
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN python -m pip install . && cryoseg --version

# Files in the mounted folder belong to whoever started the container, where `--user` is given.
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["cryoseg"]
CMD ["--help"]
