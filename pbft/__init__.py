"""Practical Byzantine Fault Tolerance: the protocol, nothing else."""
