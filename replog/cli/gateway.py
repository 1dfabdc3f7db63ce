"""A host's gateway, and whom it serves: `gateway run`, `gateway token`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replog.cli import clusters, options, output
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.live.admission import Tokens

HELP = """Serve a cluster over HTTP, and say whom.

It listens on loopback unless host.toml says otherwise. Without tokens or client certificates it serves whoever gets
there.

Example: replog gateway token add app --role write
"""


class Role(enum.StrEnum):
    READ = "read"
    WRITE = "write"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the token.")]


def add_to(app: typer.Typer) -> None:
    gateway = typer.Typer(help=HELP, no_args_is_help=True)
    gateway.command("run")(run)
    token = typer.Typer(
        help="Bearer tokens of the gateway.\n\nExample: replog gateway token list", no_args_is_help=True
    )
    for name, command in (("add", add), ("revoke", revoke), ("list", list_)):
        token.command(name)(command)
    gateway.add_typer(token, name="token")
    app.add_typer(gateway, name="gateway", rich_help_panel=options.OPERATE)


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="This host's folder, made by replog init.")],
    verbose: VerboseOption = False,
) -> int:
    """Run this host's gateway until SIGTERM or Ctrl-C. A gateway of replog up runs already.

    Example: replog gateway run h1-4700
    """
    from replog.live.gateway import main

    return main([str(folder)])


def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option("--role", help="read: queries alone.")] = Role.READ,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a token and print it, this once: the gateway keeps its hash. From the first one on it serves nobody without.

    Example: replog gateway token add app --role write
    """
    token = _tokens(cluster).add(name, role.value)
    if json:
        output.as_json({"name": name, "role": role.value, "token": token})
    else:
        output.line(token)


def revoke(name: NameArgument, cluster: ClusterOption = None, verbose: VerboseOption = False) -> None:
    """Let nobody in with this token any more. A gateway that runs hears of it with the next request.

    Example: replog gateway token revoke app
    """
    _tokens(cluster).revoke(name)
    output.line(f"token {name} is revoked")


def list_(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Show which tokens there are, not what they are.

    Example: replog gateway token list
    """
    known = [{"name": token.name, "role": token.role} for token in _tokens(cluster).read()]
    if json:
        output.as_json({"tokens": known})
    else:
        output.table(("name", "role"), [[token["name"], token["role"]] for token in known])


def _tokens(cluster: Path | None) -> Tokens:
    from replog.config import ClusterConfig
    from replog.host import HostConfig
    from replog.live.admission import Tokens

    config = ClusterConfig.load(clusters.known(cluster))
    return Tokens(config.client_folder(HostConfig.of(config).gateway.client))
