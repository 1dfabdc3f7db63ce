"""A cluster over several machines: `key new` on each, `init` on one, `node` on each again."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replog.cli import options, output
from replog.cli.exits import WrongUsage
from replog.cli.key import install
from replog.cli.options import AuthOption, JsonOption, RobustOption, VerboseOption
from replog.cli.service import Durability

if TYPE_CHECKING:
    from replog.config import ClusterConfig
    from replog.founding import Place
    from replog.handover import HandedFile

SUFFIX = ".pub"  # replog.handover.SUFFIX; that module takes a tenth of a second to load
DAYS = 730
TRAITOR = (
    "all keys were made on this machine: whoever has it, or has had it, can speak for every replica, so it is one "
    "traitor for all; for use, run replog key new on each host and name the files with --peers"
)


def add_to(app: typer.Typer) -> None:
    app.command("init", rich_help_panel=options.OPERATE)(init)
    app.command("node", rich_help_panel=options.OPERATE)(node)


def init(
    protocol: Annotated[str, typer.Argument(help="pbft, raft, or another installed protocol.")],
    hosts: Annotated[
        list[str], typer.Argument(metavar="HOST:PORT...", help="Where the others find each replica, in order.")
    ],
    peers: Annotated[
        list[str] | None,
        typer.Option("--peers", metavar="FILE.pub...", help="What replog key new has made on each host; all at once."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A new or empty folder.")] = None,
    all_keys_here: Annotated[
        bool, typer.Option("--all-keys-here", help="Make all keys on this machine: for a laboratory.")
    ] = False,
    f: Annotated[int | None, typer.Option("--f", help="Faults to stand.", show_default="as many as can be")] = None,
    app: Annotated[
        str | None, typer.Option(metavar="FILE.py:CLASS", help="The application.", show_default="a key-value store")
    ] = None,
    bind: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where replicas listen.", show_default="where they are found")
    ] = None,
    gateway: Annotated[
        str, typer.Option("--gateway", metavar="ADDRESS", help="Where each host's gateway listens, 100 ports above.")
    ] = "127.0.0.1",
    durability: Annotated[Durability, typer.Option(help="When a promise is on disk.")] = Durability.ALWAYS,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long certificates of links last.")] = DAYS,
    auth: AuthOption = None,
    robust: RobustOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Found a cluster over several machines: its authority, certificates, and one folder for each host.

    Each host has run replog key new before, and handed over its .pub file. The folder admin holds the authority and
    the administrator's key: keep it on a machine that is no replica's.

    Example: replog init pbft h1:4700 h2:4700 h3:4700 h4:4700 --peers *.pub --out DIR
    """
    from replog import founding

    files = [*(peers or ()), *(host for host in hosts if host.endswith(SUFFIX))]
    places = [founding.Place.read(host) for host in hosts if not host.endswith(SUFFIX)]
    public = _handed(files, places, all_keys_here)
    own = options.protocol_options(protocol, auth, robust)
    place = out if out is not None else Path(f"replog-{protocol}-hosts")
    kind = app if app is not None else founding.Plan.app
    plan = founding.Plan(protocol, places, public, f, kind, durability.value, bind, gateway, days, own)
    config = founding.found(place, plan)
    if all_keys_here:
        output.remark(f"warning: {TRAITOR}")
    _told(place, config, places, public, json=json)


def _handed(files: list[str], places: list[Place], all_keys_here: bool) -> list[HandedFile] | None:
    from replog import founding, handover

    if all_keys_here and files:
        raise WrongUsage(f"--all-keys-here: {files[0]} was made elsewhere; name one or the other")
    if all_keys_here:
        return None
    if not files:
        raise WrongUsage(
            "--peers: is missing: the .pub file of each host, made there with replog key new; for a laboratory on one "
            "machine: --all-keys-here"
        )
    return founding.by_host(places, [handover.read(path) for path in files])


def _told(
    out: Path, config: ClusterConfig, places: list[Place], public: list[HandedFile] | None, *, json: bool
) -> None:
    from replog.founding import ADMINISTRATION

    prints = [file.fingerprint for file in public] if public is not None else ["made here"] * len(places)
    names = [file.name + SUFFIX for file in public] if public is not None else ["-"] * len(places)
    folders = [str(out / place.folder) for place in places]
    rows = list(zip(range(config.n), [f"{p.host}:{p.port}" for p in places], names, prints, folders, strict=True))
    columns = ("node", "address", "keys_of", "fingerprint", "folder")
    if json:
        hosts = [dict(zip(columns, row, strict=True)) for row in rows]
        output.as_json({"admin": str(out / ADMINISTRATION), "n": config.n, "f": config.f, "hosts": hosts})
        return
    output.table([name.replace("_", " ") for name in columns], rows)
    keys = "" if public is None else " --keys KEYS"
    output.line(f"\n{config.protocol}, n = {config.n}, f = {config.f}. Next:")
    if public is not None:
        output.line("  compare each fingerprint with what replog key new has shown on that host")
    output.line(f"  bring each folder to its host, and run it there: replog node FOLDER{keys}")
    output.line(f"  then: replog status --cluster {out / ADMINISTRATION}")


def node(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="This host's folder, made by replog init.")],
    keys: Annotated[
        Path | None, typer.Option("--keys", metavar="DIR", help="Where replog key new has made this host's keys.")
    ] = None,
    verbose: VerboseOption = False,
) -> int:
    """Run this host's replica until SIGTERM or Ctrl-C.

    The first time --keys names the folder of the host's keys; they are moved into DIR. What the replica does is told in
    lines of JSON, and in DIR/node-K/node.log.

    Example: replog node h1-4700 --keys replog-keys
    """
    from replog.config import ClusterConfig
    from replog.host import FILE, HostConfig
    from replog.live.node import main

    config = ClusterConfig.load(folder)
    host = HostConfig.of(config)
    if host.node is None:
        rule = f"{FILE} names no node; replog init makes a folder for each host, replog up runs all on one machine"
        raise WrongUsage(f"{folder}: is no host's folder: {rule}")
    if keys is not None:
        install(config, keys)
    own = config.node_folder(host.node)
    for name in ("key.pem", "tls.key"):
        if not (own / name).exists():
            rule = "replog key new has made it on this host, name its folder with --keys DIR"
            raise WrongUsage(f"{own / name}: is missing: {rule}")
    return main([str(own)])
