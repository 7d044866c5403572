"""The former name of `pipelines.batches.run`."""

from cryoseg.pipelines.batches.run import run_batch

__all__ = ["run_batch"]
