"""Keys of one machine: `key new`, `install`, `rotate`, and `certify` for another one's."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

from datetime import timedelta
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
CA_KEY = "ca.key"  # replog.enrolment.CA_KEY
DAYS = 730

DaysOption = Annotated[int, typer.Option("--days", min=1, max=3650, help="How long the certificate lasts.")]


def add_to(app: typer.Typer) -> None:
    key = typer.Typer(help=HELP, no_args_is_help=True)
    key.command("new")(new)
    key.command("install")(install_)
    key.command("rotate")(rotate)
    key.command("certify")(certify)
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


def rotate(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NODE|CLIENT...", help="Of whom.", show_default="everybody whose keys are here"),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE.pem", help="What replog key certify has made.")
    ] = None,
    days: DaysOption = DAYS,
    cluster: ClusterOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Renew keys and certificates of links while replicas run; no operation fails of it.

    Where the authority's key is in the folder this is one step. On a host of its own it makes a request: bring that to
    whoever has the authority, for replog key certify, and what comes of it back, with --certificate. Identity keys
    stay: replog member replace gives a machine another identity.

    Example: replog key rotate
    """
    from replog import rotation
    from replog.config import ClusterConfig

    config = ClusterConfig.load(clusters.known(cluster))
    folders = [_folder(config, name) for name in nodes] if nodes else rotation.all_here(config)
    if certificate is not None:
        _finish(config, folders, certificate)
        return
    for folder in folders:
        request = rotation.begin(config, folder)
        if (config.folder / CA_KEY).is_file():
            rotation.finish(config, folder, rotation.certify(config, request, timedelta(days=days)))
            output.line(f"{folder.name}: renewed for {days} days")
        else:
            output.line(str(request))
    if not (config.folder / CA_KEY).is_file():
        output.remark("bring each file to the folder with the authority: replog key certify FILE")


def _folder(config: ClusterConfig, name: str) -> Path:
    folder = config.node_folder(int(name)) if name.isascii() and name.isdigit() else config.client_folder(name)
    if not folder.is_dir():
        raise WrongUsage(f"{name}: there is no {folder}; name a replica by its number, or a client")
    return folder


def _finish(config: ClusterConfig, folders: list[Path], certificate: Path) -> None:
    from replog import certificates, rotation

    try:
        pem = certificate.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"--certificate = {certificate}: {getattr(error, 'strerror', None) or error}") from None
    who, _ = certificates.link_of(pem, config.cluster)
    named = [folder for folder in folders if rotation.who_of(folder) == who]
    if not named:
        whose = "of nobody of this cluster" if who is None else f"of {who}, whose keys are not in {config.folder}"
        raise WrongUsage(f"--certificate = {certificate}: is {whose}")
    rotation.finish(config, named[0], pem)
    output.line(f"{named[0].name}: renewed; a replica that runs uses it within seconds, a gateway once it is restarted")


def certify(
    requests: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What replog key rotate has made.")],
    days: DaysOption = DAYS,
    cluster: ClusterOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Make certificates for requests of replog key rotate, where the authority's key is.

    Example: replog key certify renewal.toml --cluster DIR/admin
    """
    from replog import rotation
    from replog.certificates import write_new
    from replog.config import ClusterConfig

    config = ClusterConfig.load(clusters.known(cluster))
    for request in requests:
        pem = rotation.certify(config, request, timedelta(days=days))
        path = request.with_suffix(".pem")
        path.unlink(missing_ok=True)
        write_new(path, pem.encode(), mode=0o644)
        output.line(str(path))
