"""Which cluster a command means: the one that is named, or the only one that runs below this folder."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import NoReturn

from replog.cli.exits import WrongUsage
from replog.cli.running import any_process
from replog.errors import NoCluster

FILE = "cluster.toml"  # replog.config.FILE; that module takes a tenth of a second to load
HOST_FILE = "host.toml"  # replog.host.FILE
IDENTITIES = "identities.pem"  # as replog.config has it
PREFIX = "replog-"


def folder_for(cluster: Path | None, protocol: str) -> Path:
    """Where `up PROTOCOL` keeps its cluster."""
    return cluster if cluster is not None else Path(f"{PREFIX}{protocol}")


def running(cluster: Path | None) -> Path:
    """The folder of the running cluster that is meant.

    Raises NoCluster if there is none, WrongUsage if two run here and none was named.
    """
    if cluster is None:
        found = _running_here()
        return _only(found, "run") if found else _none_runs()
    if not may_run(known(cluster)):
        raise NoCluster(f"{cluster}: this cluster is not running; start it with {start(cluster)}")
    return cluster


def on_hosts(folder: Path) -> bool:
    """Whether it is of a cluster over several machines: whether that runs is not known here."""
    return (folder / HOST_FILE).is_file()


def may_run(folder: Path) -> bool:
    """Whether it runs on this machine, or is of one over several."""
    return on_hosts(folder) or any_process(folder)


def known(cluster: Path | None) -> Path:
    """The folder of the cluster that is meant, running or not: for what can be read from files."""
    if cluster is None:
        found = _running_here() or here()
        return _only(found, "are") if found else _none_runs()
    if not (cluster / FILE).is_file():
        rule = f"make one there with replog up pbft --f 1 --cluster {shlex.quote(str(cluster))}"
        raise NoCluster(f"{cluster}: holds no cluster, there is no {FILE} in it; {rule}")
    return cluster


def start(folder: Path) -> str:
    """The command that starts the cluster of this folder again."""
    if on_hosts(folder):
        return f"replog node {shlex.quote(str(folder))} on each host"
    protocol = _protocol(folder)
    return f"replog up {protocol}{named(folder)}"


def named(folder: Path) -> str:
    """What a command needs beside its name to mean this cluster: nothing where it is the folder by default."""
    return "" if folder == folder_for(None, _protocol(folder)) else f" --cluster {shlex.quote(str(folder))}"


def _protocol(folder: Path) -> str:
    try:
        return str(tomllib.loads((folder / FILE).read_text())["protocol"])
    except (OSError, ValueError, KeyError):
        return "PROTOCOL"


def _running_here() -> list[Path]:
    """Raises PermissionError if there is none but perhaps another user's."""
    found, foreign = [], None
    for folder in here():
        try:
            if any_process(folder):
                found.append(folder)
        except PermissionError as error:
            foreign = error
    if foreign is not None and not found:
        raise foreign
    return found


def _only(found: list[Path], are: str) -> Path:
    if len(found) > 1:
        choice = " or ".join(f"--cluster {folder}" for folder in found)
        raise WrongUsage(f"{len(found)} clusters {are} here, name one: {choice}")
    return found[0]


def _none_runs() -> NoReturn:
    stopped = here()
    if stopped:
        rule = f"start {stopped[0]} with {start(stopped[0])}, or name another folder with --cluster DIR"
    else:
        rule = (
            f"there is no {PREFIX}*/{FILE}; name its folder with --cluster DIR, or start one with replog up pbft --f 1"
        )
    raise NoCluster(f"no cluster runs in {Path.cwd()}: {rule}")


def here() -> list[Path]:
    """Cluster folders with a default name in the working directory."""
    return sorted(path.parent for path in Path().glob(f"{PREFIX}*/{FILE}"))
