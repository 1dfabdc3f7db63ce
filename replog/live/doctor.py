"""What may go wrong with a cluster before it does: times against each other, disk, clock, certificates, room.

Here: measuring, and judging what was measured. Not here: the command (`replog.cli.doctor`), nor what a running cluster
says of itself, which is handed in.

    broadcastTime << electionTimeout << MTBF                                                        [Raft 5.6]

Ten times is what the first `<<` means here, and a hundred times the second. For PBFT the view time-out stands in the
election time-out's place: a primary that is only slow must not look like one that is gone.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Final

from replog.certificates import LINK_CERTIFICATE
from replog.certificates import ends as certificate_end
from replog.config import ClusterConfig
from replog.errors import ConfigError
from replog.host import HostConfig, gateway_place
from replog.membership import Configuration
from replog.roster import Roster
from replog.storage import RISKS
from replog.types import Micros

BROADCAST_FACTOR: Final = 10
MTBF_FACTOR: Final = 100
HEARTBEATS_MIN: Final = 3
"""Heartbeats within the least time-out: fewer, and a lost one or two depose a leader."""
ELECTIONS_MIN: Final = 10
"""So few elections say nothing about how often there are some."""
WRITES, WRITE_BYTES = 30, 16_384
CERTIFICATE_DAYS: Final = 30
ROOM_BYTES: Final = 1024**3
LINKS_A_CLIENT: Final = 16
FILES_ELSE: Final = 64
"""What a process has open beside its links."""
SUSPENDED_S: Final = 1.0


class State(StrEnum):
    GOOD = "good"
    NOTE = "note"  # worth knowing, wrong for nobody
    UNKNOWN = "unknown"  # not measured; the text says why
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """`measured`: what is; `rule`: what should be, and what to do where it is not."""

    name: str
    state: State
    measured: str
    rule: str = ""

    def as_dict(self) -> dict[str, str]:
        return {**asdict(self), "state": self.state.value}


def is_well(findings: Sequence[Finding]) -> bool:
    return not any(one.state in (State.WARNING, State.WRONG) for one in findings)


def judged(name: str, holds: bool, measured: str, rule: str, otherwise: State = State.WARNING) -> Finding:
    return Finding(name, State.GOOD if holds else otherwise, measured, rule)


def ms(us: float) -> str:
    return f"{us / 1000:.3g} ms" if us < 1_000_000 else f"{us / 1e6:.3g} s"


# -------------------------------------------------------------------------------------------------------------- times


@dataclass(frozen=True)
class Times:
    """Microseconds. `broadcast`: a round to a majority and back, None if it was not measured. `write`: of a record, 0
    where nobody waits for the disk. `patience`: silence that makes replicas act."""

    broadcast: float | None
    write: float
    worst_write: float
    patience: Micros
    word: str


def patience_of(options: Any) -> tuple[Micros, str]:
    """The shortest time after which a leader or primary counts as gone, and the option's name."""
    for name in ("election_timeout_min_us", "view_timeout_us"):
        if hasattr(options, name):
            return int(getattr(options, name)), name
    return 0, ""


def timing(times: Times, mtbf_us: float, options: Any) -> Iterator[Finding]:
    """The two relations of [Raft 5.6], and what they rest on."""
    if not times.patience:
        return
    limit = times.patience / BROADCAST_FACTOR
    rule = f"{times.word} = {times.patience} must be {BROADCAST_FACTOR} times as much, or who is slow looks dead"
    if times.broadcast is None:
        yield Finding("broadcast time", State.UNKNOWN, "no leader has measured it yet", rule)
    else:
        measured = f"{ms(times.broadcast)} there and back, {ms(times.write)} to write"
        yield judged("broadcast time", times.broadcast + times.write <= limit, measured, rule)
    slow = f"the slowest of {WRITES} must be below {times.word} = {times.patience}"
    yield judged("disk", times.worst_write < times.patience, f"slowest write {ms(times.worst_write)}", slow)
    often = f"must be {MTBF_FACTOR} times {times.word} at least: meanwhile nobody serves"
    fits = mtbf_us >= MTBF_FACTOR * times.patience
    yield judged("time between failures", fits, f"{mtbf_us / 86_400e6:.3g} days expected", often)
    beat = getattr(options, "heartbeat_us", 0)
    if beat and times.word == "election_timeout_min_us":
        rule = f"heartbeat_us = {beat} must fit {HEARTBEATS_MIN} times into {times.word}: a few may be lost"
        yield judged("heartbeat", beat * HEARTBEATS_MIN <= times.patience, f"{times.patience / beat:.3g} times", rule)


def seldom_us(options: Any) -> float:
    """How far apart changes of the leader should be: where primaries change in turn, half of a turn."""
    patience, _ = patience_of(options)
    rotates = "rotation" in getattr(options, "measures", ())
    return min(MTBF_FACTOR * patience, options.view_length_us / 2) if rotates else MTBF_FACTOR * patience


def elections(view: int, age_us: float, seldom: float, word: str) -> Finding:
    """How often another came to lead since the cluster was made."""
    if view < ELECTIONS_MIN:
        return Finding("elections", State.GOOD, f"{word} {view}")
    every = age_us / view
    rule = f"one in {ms(seldom)} at most; see why in replog status and replog logs"
    return judged("elections", every >= seldom, f"{word} {view}, one in {ms(every)}", rule)


# ------------------------------------------------------------------------------------------------------ configuration


def configuration(config: ClusterConfig, members: Configuration) -> Iterator[Finding]:
    spec, n, f = config.spec, members.n, members.f
    could, least = spec.faults(n), spec.replicas(f)
    size = f"n = {n}, f = {f}"
    if f == 0:
        yield Finding("size", State.WARNING, size, f"stands no fault; n = {spec.replicas(1)} would stand one")
    elif could > f:
        yield Finding("size", State.NOTE, size, f"{n} replicas could stand {could}")
    elif n > least:
        yield Finding("size", State.NOTE, size, f"{least} replicas stand as many, and answer sooner")
    else:
        yield Finding("size", State.GOOD, size)
    hosts = {member.host for member in members.members}
    if len(hosts) == 1 and n > 1:
        yield Finding("machines", State.NOTE, f"all on {hosts.pop()}", "one machine is one fault, whatever runs on it")
    promise = f"{RISKS[config.durability]}: durability = always"
    yield judged("durability", config.durability == "always", config.durability, promise)


def certificates(folder: Path, now: datetime.datetime) -> Iterator[Finding]:
    """Of the cluster's own authority and of everybody whose folder is here."""
    ends: dict[str, datetime.datetime] = {}
    for path in (folder / "ca.pem", *sorted(folder.glob("*/tls.pem"))):
        name = str(path.relative_to(folder))
        try:
            ends[name] = certificate_end(path)
        except ConfigError as error:
            yield Finding("certificates", State.WRONG, f"{name}: cannot be read", str(error))
    if ends:
        name, end = min(ends.items(), key=lambda item: item[1])
        days = (end - now).total_seconds() / 86_400
        state = State.WRONG if days <= 0 else State.WARNING if days < CERTIFICATE_DAYS else State.GOOD
        rule = "" if state is State.GOOD else "whose certificate has expired has no links: replog key rotate"
        told = f"has expired: {name}" if days <= 0 else f"{len(ends)}, the first ends in {days:.0f} days: {name}"
        yield Finding("certificates", state, told, rule)


def gateway(config: ClusterConfig) -> Iterator[Finding]:
    """Whom the gateway of this folder serves, if it has one."""
    from replog.live.admission import Tokens
    from replog.live.gateway import exposed

    try:
        settings, (host, port) = HostConfig.of(config).gateway, gateway_place(config)
        folder = config.client_folder(settings.client)
        if not (folder / LINK_CERTIFICATE).is_file():
            return
        is_open = not settings.certificates and not Tokens(folder)
    except ConfigError as error:
        yield Finding("gateway", State.WRONG, "cannot be started", str(error))
        return
    warning = exposed(host, tls=settings.tls, is_open=is_open)
    whom = "anybody" if is_open else "whom it knows"
    yield judged("gateway", not warning, f"serves {whom} on {host}:{port}", warning)


def secrets(folder: Path) -> Finding:
    """Keys that others than this user can read."""
    paths = [folder / "ca.key", *folder.glob("*/key.pem"), *folder.glob("*/tls.key"), *folder.glob("*/tokens.toml")]
    open_ = [path for path in paths if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    told = f"{len(open_)} that others can read, as {open_[0].relative_to(folder)}" if open_ else "their user's alone"
    return judged("keys", not open_, told, "chmod 600: who has a replica's key can speak in its name", State.WRONG)


# ---------------------------------------------------------------------------------------------------------- a machine


def writes(folder: Path) -> list[float]:
    """Microseconds that synchronous writes take there, as the log makes them."""
    taken, data = [], os.urandom(WRITE_BYTES)
    sync = getattr(os, "fdatasync", os.fsync)
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(WRITES):
            began = time.perf_counter()
            file.write(data)
            file.flush()
            sync(file.fileno())
            taken.append((time.perf_counter() - began) * 1e6)
    return taken


def times_of(config: ClusterConfig, taken: Sequence[float], broadcast: float | None) -> Times:
    patience, word = patience_of(config.protocol_options())
    waits = config.durability == "always"
    return Times(broadcast, median(taken) if waits else 0.0, max(taken) if waits else 0.0, patience, word)


def measured(config: ClusterConfig, broadcast: float | None, mtbf_us: float) -> Iterator[Finding]:
    try:
        taken = writes(config.folder)
    except OSError as error:
        rule = "a replica that cannot write stops: make room, then replog down and up start it again"
        yield Finding("disk", State.WRONG, f"cannot be written: {error.strerror or error}", rule)
        return
    yield from timing(times_of(config, taken, broadcast), mtbf_us, config.protocol_options())


def room(free: int) -> Finding:
    told = f"{free / 1024**3:.1f} GiB free"
    return judged("room", free >= ROOM_BYTES, told, "a full disk stops its replica; 1 GiB at least")


def files(config: ClusterConfig, limits: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    """`limits`: by process, how many files it has open and may have."""
    needed = config.n + LINKS_A_CLIENT * len(config.clients) + FILES_ELSE
    for name, (used, limit) in limits.items():
        if limit < needed or used * 10 > limit * 9:
            rule = f"{needed} at least, and some of them free: raise it with ulimit -n before replog up"
            yield Finding("open files", State.WARNING, f"{name}: {used} of {limit}", rule)
            return
    if limits:
        name, (used, limit) = min(limits.items(), key=lambda item: item[1][1])
        yield Finding("open files", State.GOOD, f"{used} of {limit}: {name}")


def open_files(pids: Mapping[int, int]) -> dict[str, tuple[int, int]]:
    """Of replicas on this machine, where the system tells."""
    found = {}
    for node, pid in pids.items():
        try:
            limits = Path(f"/proc/{pid}/limits").read_text()
            limit = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
            found[f"node {node}"] = (len(list(Path(f"/proc/{pid}/fd").iterdir())), int(limit))
        except (OSError, StopIteration, ValueError):
            continue
    return found


def clock(options: Any) -> Iterator[Finding]:
    """Time of day is agreed upon, and leases rest on the monotonic clock."""
    synchronised = _synchronised()
    if synchronised is None:
        yield Finding("clock", State.UNKNOWN, "this system does not tell whether it is synchronised")
    else:
        told = "synchronised" if synchronised else "not synchronised"
        rule = "" if synchronised else "the agreed time of operations is as wrong as the leader's clock; use NTP"
        yield Finding("clock", State.GOOD if synchronised else State.NOTE, told, rule)
    if getattr(options, "lease_reads", False):
        drift, slept = options.clock_drift_ppm, _slept_s()
        rule = "it stands still meanwhile, and reads by a lease may be stale: lease_reads = false"
        held = slept is None or slept < SUSPENDED_S
        told = f"leases count on a drift below {drift / 1e6:.0%}" + ("" if held else f"; suspended for {slept:.0f} s")
        yield judged("leases", held, told, rule)


def _synchronised() -> bool | None:
    """What the kernel says of its clock; None where it says nothing."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))) not in (-1, 5)  # TIME_ERROR
    except (OSError, AttributeError):
        return None


def _slept_s() -> float | None:
    """How long this machine was suspended since it was started."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


# -------------------------------------------------------------------------------------------------- a running cluster


def running(config: ClusterConfig, report: Mapping[str, Any], age_us: float) -> Iterator[Finding]:
    """`report`: what `replog status` tells."""
    told = report["sentence"].partition(";")[0]
    lacking = State.WARNING if report["has_quorum"] else State.WRONG
    everybody = report["has_quorum"] and report["in_sync"] == report["n"]
    yield judged("replicas", everybody, told, "all in sync; see replog status and replog logs", lacking)
    nonsense = {one["node"]: count for one in report["replicas"] if (count := one.get("detail", {}).get("nonsense"))}
    if nonsense:
        named = ", ".join(f"node {node}: {count}" for node, count in nonsense.items())
        rule = "messages that no correct replica or client sends; see replog logs"
        yield Finding("nonsense", State.WARNING, f"refused by {named}", rule)
    word = config.spec.view_word
    views = [one[word] for one in report["replicas"] if one.get(word) is not None]
    if views:
        yield elections(max(views), age_us, seldom_us(config.protocol_options()), word)


def broadcast_of(report: Mapping[str, Any]) -> float | None:
    """As the present leader has measured it."""
    told = [one.get("detail", {}).get("broadcast_us", 0) for one in report["replicas"]]
    return max((value for value in told if isinstance(value, int) and value > 0), default=None)


def examine(
    config: ClusterConfig, report: Mapping[str, Any] | None, pids: Mapping[int, int], question_us: float, mtbf_us: float
) -> list[Finding]:
    """Everything. `report`: None if the cluster does not run. `question_us`: how long a client waits for the word of
    all replicas, in place of a broadcast time that nobody measured."""
    folder, options, now = config.folder, config.protocol_options(), datetime.datetime.now(datetime.UTC)
    measures = hasattr(options, "election_timeout_min_us")
    broadcast = None if report is None else broadcast_of(report) if measures else question_us
    made = (folder / "ca.pem").stat().st_mtime if (folder / "ca.pem").exists() else now.timestamp()
    findings = list(running(config, report, (now.timestamp() - made) * 1e6)) if report is not None else []
    if report is None:
        rule = "times of a running cluster are not measured"
        findings.append(Finding("replicas", State.NOTE, "not running" if not pids else "not asked from here", rule))
    findings += measured(config, broadcast, mtbf_us)
    findings += configuration(config, Roster(config).known)
    findings += certificates(folder, now)
    findings += gateway(config)
    findings += [secrets(folder), room(shutil.disk_usage(folder).free)]
    findings += files(config, open_files(pids))
    findings += clock(options)
    return findings
