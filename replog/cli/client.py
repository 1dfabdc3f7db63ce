"""Who may use a cluster, and for what: `client list`, `add`, `role` and `revoke`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output
from replog.cli.data import asked
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.access import Access
    from replog.config import ClusterConfig

HELP = """Register and revoke clients, and say what each may do.

Roles are read (queries), write (commands too), admin (registering clients too). They are part of the replicated state:
every replica enforces them where an operation is executed, whichever gateway or replica it came by.

Example: replog client list
"""
SUFFIX = ".pub"  # replog.handover.SUFFIX


class Role(enum.StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


RoleOption = Annotated[Role, typer.Option("--role", help="What it may do.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the client.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="DIR",
        help="Folder of the administrator's key.pem; without one the client's role is to be enough.",
        show_default="DIR/admin",
    ),
]


def add_to(app: typer.Typer) -> None:
    client = typer.Typer(help=HELP, no_args_is_help=True)
    client.command("list")(list_)
    for command in (add, role, revoke):
        client.command(command.__name__)(command)
    app.add_typer(client, name="client", rich_help_panel=options.OPERATE)


def list_(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Show who is registered, and what each may do.

    Example: replog client list
    """
    _, folder = _config(cluster)
    access: Access = asked(folder, lambda client: client.access())
    rows = [{"name": one.name, "role": one.role, "public_key": one.public_key.hex()} for one in access.clients]
    if json:
        output.as_json({"cluster": str(folder), "changes": access.serial, "clients": rows})
        return
    columns = ("name", "role", "public_key") if verbose else ("name", "role")
    output.table([name.replace("_", " ") for name in columns], [[row[name] for name in columns] for row in rows])


def add(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE.pub", help="A name, or what replog key new has made.")],
    role: RoleOption = Role.WRITE,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="What the client works from.", show_default="the cluster's folder"),
    ] = None,
    key: KeyOption = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Register a client.

    With a .pub file the client has made its keys itself, by replog key new --client NAME; with a name they are made
    here. Commands speak as this client with REPLOG_CLIENT=NAME.

    Example: replog client add bob.pub --role read --out bob
    """
    from replog import handover
    from replog.live.registering import Registrar

    config, folder = _config(cluster)
    handed = handover.read(name) if name.endswith(SUFFIX) else None
    public = handed.public(handover.CLIENT) if handed is not None else None
    who, place = (name if handed is None else handed.name), (out if out is not None else folder)
    registrar = Registrar(config, key)
    asked(folder, lambda client: registrar.add(client, who, role.value, place, public))
    _told(folder, {"client": who, "role": role.value, "folder": str(place)}, json=json)
    if not json and handed is not None:
        output.remark(f"fingerprint {handed.fingerprint}; bring {place} to {who}, who runs there:")
        output.remark(f"  replog key install KEYS --cluster {place.name}")


def role(
    name: NameArgument,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="read, write or admin.")],
    key: KeyOption = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Let a client do more, or less, from now on.

    Example: replog client role bob write
    """
    _set(cluster, name, role.value, key, json=json)


def revoke(
    name: NameArgument,
    key: KeyOption = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Let a client do nothing any more, for ever: its name and key are not used again.

    Example: replog client revoke bob
    """
    _set(cluster, name, "revoked", key, json=json)


def _set(cluster: Path | None, name: str, role: Any, key: Path | None, *, json: bool) -> None:
    from replog.live.registering import Registrar

    config, folder = _config(cluster)
    registrar = Registrar(config, key)
    asked(folder, lambda client: registrar.set(client, name, role))
    _told(folder, {"client": name, "role": role}, json=json)


def _told(folder: Path, what: dict[str, str], *, json: bool) -> None:
    if json:
        output.as_json({"cluster": str(folder), **what})
    elif what["role"] == "revoked":
        output.line(f"client {what['client']} is revoked: no replica executes what it says from now on")
    else:
        output.line(f"client {what['client']} has role {what['role']}")


def _config(cluster: Path | None) -> tuple[ClusterConfig, Path]:
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    return ClusterConfig.load(folder), folder
