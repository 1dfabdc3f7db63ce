"""`replog judge HISTORY`: whether a history, ours or another tool's, is linearizable; and ours for other tools."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replog.cli import options, output
from replog.cli.exits import ExitCode, leave
from replog.cli.options import JsonOption, VerboseOption

if TYPE_CHECKING:
    from compare.history import Call


class ModelName(StrEnum):
    REGISTER = "register"
    KV = "kv"


def add_to(app: typer.Typer) -> None:
    app.command("judge", rich_help_panel=options.COMPARE)(judge)


def judge(
    history: Annotated[Path, typer.Argument(metavar="HISTORY", help="JSON lines: see docs/histories.md.")],
    model: Annotated[ModelName, typer.Option(help="What the calls were made to.")],
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it for other tools: .jsonl, or .edn as Jepsen. Never overwritten."),
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Is there an order of all calls that explains every answer? If not, the few calls that show it.

    Example: replog judge history.jsonl --model register
    """
    from compare import recorded
    from compare.checkers import Undecided
    from compare.checkers.linearizability import check

    calls = recorded.load(history, model.value)
    if export is not None:
        _export(export, calls)
    unknown = sum(not call.known for call in calls)
    try:
        found = check(calls, recorded.MODELS[model.value])
    except Undecided as reason:
        _say(json, "undecided", len(calls), unknown, str(reason))
        leave(ExitCode.NOT_AS_EXPECTED)
    if not found.checked:
        _say(json, "vacuous", len(calls), unknown, "no call has an outcome, which proves nothing")
        leave(ExitCode.VACUOUS)
    _say(json, "linearizable" if found.ok else "not linearizable", len(calls), unknown, found.detail)
    leave(ExitCode.AS_EXPECTED if found.ok else ExitCode.SAFETY_VIOLATED)


def _say(json: bool, verdict: str, calls: int, unknown: int, detail: str) -> None:
    if json:
        output.as_json({"verdict": verdict, "calls": calls, "unknown": unknown, "detail": detail})
        return
    output.line(f"{verdict}: {calls:,} calls, {unknown:,} of unknown outcome")
    if detail:
        output.line(detail)


def _export(path: Path, calls: list[Call]) -> None:
    from compare import edn, recorded

    if path.suffix not in (".jsonl", ".edn"):
        recorded.refuse(path, "must end in .jsonl or .edn")
    if path.exists():
        recorded.refuse(path, "is there already, and nothing is overwritten")
    try:
        if path.suffix == ".edn":
            left = edn.write(path, calls)
            if left:
                output.remark(f"{left:,} calls are no calls of a register, and are left out of {path}")
        else:
            recorded.write(path, calls)
    except OSError as error:
        recorded.refuse(path, error.strerror or "cannot be written")
