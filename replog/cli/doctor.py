"""`replog doctor`: what may go wrong with a cluster before it does."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import ExitCode, leave
from replog.cli.options import ClusterOption, JsonOption, VerboseOption
from replog.errors import NoCluster

if TYPE_CHECKING:
    from replog.config import ClusterConfig
    from replog.live.client import LogClient

ROUNDS = 5
"""Times that all replicas are asked."""
PATIENCE_S = 3.0
"""How long a leader that has just begun may take to measure."""
PAUSE_S = 0.2


def add_to(app: typer.Typer) -> None:
    app.command("doctor", rich_help_panel=options.OPERATE)(doctor)


def doctor(
    mtbf: Annotated[
        float, typer.Option(min=0.001, metavar="DAYS", help="How long a machine of yours runs between two failures.")
    ] = 30.0,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.zip",
            help="Write all that was found to one file, for a bug report; keys redacted.",
        ),
    ] = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Measure times, disk and clock, and warn where they do not fit the configuration.

    The broadcast time must be well below the time-outs, and those well below the time between failures [Raft 5.6].
    Exit code 1 if there is a warning.

    Example: replog doctor
    """
    from replog.cli.data import commands_clients
    from replog.config import ClusterConfig
    from replog.live import doctor as at
    from replog.live.processes import LocalProcesses

    folder = clusters.known(cluster)
    config = ClusterConfig.load(folder)
    can_ask = clusters.may_run(folder) and bool(commands_clients(config))
    report, question_us = asked(config) if can_ask else (None, 0.0)
    pids = LocalProcesses(config).pids()
    findings = at.examine(config, report, pids, question_us, mtbf * 86_400e6)
    if bundle is not None:
        from replog.live.bundle import write

        names = write(bundle, config, findings, report)
        output.remark(f"{bundle}: {len(names)} files, no key and no data; look through what your application printed")
    if json:
        told = [one.as_dict() for one in findings]
        output.as_json({"cluster": str(folder), "well": at.is_well(findings), "findings": told})
    else:
        shown = [one.rule if verbose or one.state is not at.State.GOOD else "" for one in findings]
        rows = [(one.state.value, one.name, one.measured, rule) for one, rule in zip(findings, shown, strict=True)]
        output.table(("state", "what", "measured", "rule"), rows)
    if not at.is_well(findings):
        leave(ExitCode.NOT_AS_EXPECTED)


def asked(config: ClusterConfig) -> tuple[dict[str, Any], float]:
    """What all replicas say, once the leader has measured, and the least time in which all answered, us."""
    from replog.cli.state import current

    report = current(config)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not _has_measured(report):
        time.sleep(PAUSE_S)
        report = current(config)
    return report, _question_us(config)


def _has_measured(report: dict[str, Any]) -> bool:
    """Whether there is a leader that measures and has, or none that does."""
    from replog.live.doctor import broadcast_of

    measures = any("broadcast_us" in one.get("detail", {}) for one in report["replicas"])
    return not measures or broadcast_of(report) is not None or not report["has_quorum"]


def _question_us(config: ClusterConfig) -> float:
    from replog.cli.data import asked as run

    async def ask(client: LogClient) -> float:
        with contextlib.suppress(NoCluster):
            await client.wait_connected(client.members.n, 1.0)
        taken = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await client.status()
            taken.append(time.perf_counter() - began)
        return min(taken) * 1e6

    try:
        return run(config.folder, ask)
    except NoCluster:
        return 0.0
