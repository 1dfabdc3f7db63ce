"""Who lied, and what proves it: `evidence list`, `verify`, and after a fork `certificate` and `blame`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.evidence import Pin, Portable

HELP = """PBFT: lies that replicas have seen, as files that prove them to anybody.

Example: replog evidence list
"""
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="An evidence file.")]
CaOption = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="The authority's certificate: ca.pem of the cluster.")
]


def add_to(app: typer.Typer) -> None:
    evidence = typer.Typer(help=HELP, no_args_is_help=True)
    evidence.command("list")(list_files)
    evidence.command("verify")(verify)
    evidence.command("certificate")(certificate)
    evidence.command("blame")(blame)
    app.add_typer(evidence, name="evidence", rich_help_panel=options.OPERATE)


def list_files(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """List what the replicas of this machine have seen. The cluster need not run.

    Example: replog evidence list --json
    """
    from replog import evidence
    from replog.config import ClusterConfig

    config = ClusterConfig.load(clusters.known(cluster))
    rows = [_row(config.folder, path, found) for path, found in evidence.kept(config)]
    if json:
        output.as_json(rows)
    elif rows:
        names = ["culprit", "kind", "place", "seen_by", "seen", "file"]
        output.table(names, [[row.get(name, row.get("error", "")) for name in names] for row in rows])
    else:
        output.remark(f"replog: {config.folder}: {_why_none(config.auth)}")


def _why_none(auth: str) -> str:
    if auth == "signatures":
        return "nobody was seen lying"
    return f"authenticated by {auth}: nothing is signed, so nobody can be convicted"


def _row(folder: Path, path: Path, found: Any) -> dict[str, Any]:
    from replog.evidence import Portable

    row: dict[str, Any] = {"file": str(folder / path.relative_to(folder))}
    if not isinstance(found, Portable):
        return row | {"error": str(found)}
    seen = datetime.datetime.fromtimestamp(found.seen_us / 1e6, datetime.UTC)
    told = {"culprit": found.culprit, "kind": found.kind, "place": found.place, "seen_by": found.seen_by}
    return row | told | {"seen": seen.isoformat(timespec="seconds"), "agreed_us": found.agreed_us}


def verify(
    file: FileArgument,
    ca: CaOption = None,
    cluster: Annotated[
        Path | None, typer.Option("--cluster", metavar="DIR", help="The cluster that the culprit must belong to.")
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check an evidence file, offline, and name the culprit. Exit code 0: proven, 1: not proven.

    Example: replog evidence verify replog-pbft/node-1/evidence/0-two-pre-prepares-1f2e3d4c5b6a.json

    Without --ca or --cluster it is proved under the authority in the file: compare its fingerprint.
    """
    from replog import evidence

    if not file.is_file():
        raise WrongUsage(f"FILE = {file}: no such file")
    pin = _pin(ca, cluster)
    try:
        found = evidence.read(file)
        conviction = evidence.verify(found, pin)
    except evidence.NotProven as error:
        _say(json, {"proven": False, "file": str(file), "reason": str(error)}, f"not proven: {file}: {error}")
        leave(ExitCode.NOT_AS_EXPECTED)
    told = {"culprit": conviction.culprit, "kind": conviction.kind, "text": conviction.text}
    told |= {"cluster": found.cluster, "epoch": found.epoch, "authority": conviction.authority}
    _say(json, {"proven": True, "file": str(file), **told}, f"proven: {conviction.text}\n{_scope(found, ca, cluster)}")


def _pin(ca: Path | None, cluster: Path | None) -> Pin:
    from replog.config import ClusterConfig
    from replog.evidence import Pin

    try:
        config = ClusterConfig.load(clusters.known(cluster)) if cluster is not None else None
        authority = ca if ca is not None else cluster / "ca.pem" if cluster is not None else None
        text = authority.read_text() if authority is not None and authority.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"--ca = {ca}: {error}") from None
    if ca is not None and not text:
        raise WrongUsage(f"--ca = {ca}: no such file")
    return Pin(text if ca is not None else "", config)


def _scope(found: Portable, ca: Path | None, cluster: Path | None) -> str:
    from replog.certificates import fingerprint

    of = f"cluster {found.cluster}, epoch {found.epoch}"
    if cluster is not None:
        return f"{of}, as {cluster} has it"
    pinned = "the one that is pinned" if ca is not None else "compare it, or name --ca FILE or --cluster DIR"
    return f"{of}, under the authority with SHA-256 {fingerprint(found.authority)}: {pinned}"


def _say(json: bool, value: dict[str, Any], text: str) -> None:
    if json:
        output.as_json(value)
    else:
        for line in text.splitlines():
            output.line(line)


# --------------------------------------------------------------------------------------------------------- after a fork


def certificate(
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="The place in the log.")],
    node: Annotated[int, typer.Option("--node", metavar="K", min=0, help="Whose archive is read.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")] = Path("certificate.json"),
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write what node K can show for SEQ: its commit certificate, for `evidence blame` on the other side of a fork.

    Example: replog evidence certificate 812 --node 3 --out side-b.json
    """
    from replog import archive, evidence
    from replog.cli.state import listed
    from replog.config import ClusterConfig
    from replog.enrolment import enrolled

    config = ClusterConfig.load(clusters.known(cluster))
    _refuse_macs(config.folder, json)
    if node not in (known := enrolled(config)):
        raise WrongUsage(f"--node = {node}: must be {listed(known)}")
    options.writable(out)
    found = evidence.certificate_of(evidence.Origin.of(config), config.node_folder(node) / archive.FOLDER, seq)
    out.write_bytes(evidence.encode(found))
    _say(
        json,
        {"file": str(out), "seq": seq, "node": node},
        f"{out}: the commit certificate of node {node} for seq {seq}",
    )


def _refuse_macs(folder: Path, json: bool) -> None:
    """Where nothing is signed there is no archive, and nothing to look into."""
    from replog.config import FILE, ClusterConfig

    if (folder / FILE).is_file() and ClusterConfig.load(folder).auth == "macs":
        reason = f"{folder}: authenticated by macs: nothing is signed, so nobody can be proved to have lied"
        _say(json, {"proven": False, "reason": reason}, f"not proven: {reason}")
        leave(ExitCode.NOT_AS_EXPECTED)


def blame(
    transcript: Annotated[
        Path, typer.Argument(metavar="TRANSCRIPT", help="A correct node's archive: DIR/node-K/archive.")
    ],
    certificate: Annotated[Path, typer.Argument(metavar="COMMIT-CERTIFICATE", help="The other side's, as a file.")],
    ca: CaOption = None,
    cluster: Annotated[
        Path | None, typer.Option("--cluster", metavar="DIR", help="The cluster that both must belong to.")
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Name who must have lied for two sides to commit different batches at one seq. Exit code 0: f + 1 or more are
    proven, 1: not so.

    Example: replog evidence blame replog-pbft/node-1/archive side-b.json
    """
    from replog import evidence
    from replog.archive import cut_short

    _refuse_macs(cluster or transcript.absolute().parent.parent, json)
    if not transcript.exists() or not certificate.is_file():
        raise WrongUsage(f"{certificate if transcript.exists() else transcript}: no such file")
    try:
        found = evidence.blame(transcript, evidence.read_certificate(certificate), _pin(ca, cluster))
        torn = cut_short(transcript)
    except evidence.NotProven as error:
        _say(json, {"proven": False, "reason": str(error)}, f"not proven: {error}")
        leave(ExitCode.NOT_AS_EXPECTED)
    told = {"proven": found.enough, "seq": found.seq, "views": found.views, "window": found.window}
    culprits = [{"culprit": node, "kind": said.kind, "text": text} for node, (said, text) in found.culprits.items()]
    lines = [f"proven: {one['text']}" for one in culprits]
    lines.append(f"two sides at seq {found.seq}, views {found.views}; the archive covers {found.window}")
    lines += [f"the archive is cut short: {file}" for file in torn]
    if not found.enough:
        lines.append("not proven: fewer than f + 1 culprits; the views in between are not in the archive")
    _say(json, {**told, "culprits": culprits}, "\n".join(lines))
    if not found.enough:
        leave(ExitCode.NOT_AS_EXPECTED)
