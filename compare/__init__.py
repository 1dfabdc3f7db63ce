"""Faults, attacks, workloads, checkers and reports: the laboratory that compares the protocols."""
