"""The broken cores of `compare.mutants.raft_cores`, for the tests."""

from compare.mutants.raft_cores import *  # noqa: F403
