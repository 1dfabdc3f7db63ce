"""Raft: the protocol, nothing else."""
