"""Which cluster a command means: the one that is named, or the only one that runs below this folder."""

from __future__ import annotations

from pathlib import Path

from replog.cli.exits import WrongUsage
from replog.cli.running import any_process
from replog.errors import NoCluster

FILE = "cluster.toml"  # replog.config.FILE; that module takes a tenth of a second to load
PREFIX = "replog-"


def folder_for(cluster: Path | None, protocol: str) -> Path:
    """Where `up PROTOCOL` keeps its cluster."""
    return cluster if cluster is not None else Path(f"{PREFIX}{protocol}")


def running(cluster: Path | None) -> Path:
    """The folder of the running cluster that is meant.

    Raises NoCluster if there is none, WrongUsage if two run here and none was named.
    """
    if cluster is not None:
        if not (cluster / FILE).is_file():
            raise NoCluster(f"{cluster}: holds no cluster, there is no {FILE} in it")
        if not any_process(cluster):
            raise NoCluster(f"{cluster}: this cluster is not running")
        return cluster
    found = [folder for folder in here() if any_process(folder)]
    if len(found) > 1:
        choice = " or ".join(f"--cluster {folder}" for folder in found)
        raise WrongUsage(f"{len(found)} clusters run here, name one: {choice}")
    if not found:
        raise NoCluster(f"no cluster runs in this folder (looked for {PREFIX}*/{FILE})")
    return found[0]


def known(cluster: Path | None) -> Path:
    """The folder of the cluster that is meant, running or not: for what can be read from files."""
    if cluster is not None:
        if not (cluster / FILE).is_file():
            raise NoCluster(f"{cluster}: holds no cluster, there is no {FILE} in it")
        return cluster
    found = here()
    return found[0] if len(found) == 1 else running(None)


def here() -> list[Path]:
    """Cluster folders with a default name in the working directory."""
    return sorted(path.parent for path in Path().glob(f"{PREFIX}*/{FILE}"))
