"""Batches of files: records, shards, worker processes, clusters and memory."""
