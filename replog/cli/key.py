"""Keys of one machine: `key new`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.config import ClusterConfig

HELP = """Make and renew the keys of this machine.

Example: replog key new
"""
FOLDER = "replog-keys"


def add_to(app: typer.Typer) -> None:
    key = typer.Typer(help=HELP, no_args_is_help=True)
    key.command("new")(new)
    key.command("install")(install_)
    app.add_typer(key, name="key", rich_help_panel=options.OPERATE)


def new(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of the host or client.", show_default="this host's name")
    ] = None,
    client: Annotated[bool, typer.Option("--client", help="For a client, see replog client add.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder.", show_default=f"./{FOLDER}")
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make this host's keys here, and a file with their public halves to hand over.

    The private ones never leave this machine. Hand the .pub file to whoever runs replog init, and compare the
    fingerprint by another way.

    Example: replog key new h1
    """
    import socket

    from replog import handover

    chosen = name if name is not None else socket.gethostname()
    purposes: tuple[handover.Purpose, ...] = (handover.CLIENT,) if client else handover.HOST_PURPOSES
    path, handed = handover.make(out if out is not None else Path(FOLDER), chosen, purposes)
    if json:
        output.as_json({"file": str(path), "name": handed.name, "fingerprint": handed.fingerprint})
        return
    output.line(str(path))
    output.remark(f"fingerprint {handed.fingerprint}; hand the file over, the keys beside it stay here")


def install_(
    keys: Annotated[Path, typer.Argument(metavar="KEYS", help="The folder that replog key new has made.")],
    cluster: ClusterOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Move keys that were made on this machine into a folder that was made for them elsewhere.

    Example: replog key install replog-keys --cluster bob
    """
    from replog.config import ClusterConfig

    folder = clusters.known(cluster)
    installed = install(ClusterConfig.load(folder), keys)
    output.line(f"{folder}: has the keys of {', '.join(installed)}" if installed else f"{folder}: had its keys already")


def install(config: ClusterConfig, keys: Path) -> list[str]:
    from replog.live.registering import install as move

    if not keys.is_dir():
        raise WrongUsage(f"--keys = {keys}: is no folder; replog key new makes one")
    return move(config, keys)
