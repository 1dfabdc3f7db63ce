"""`replog member pause` and `resume`: what clients ask waits while the members, or whatever else, are changed (Raft).

Here: saying so to the process behind `replog up`, and waiting until its servers say that it is so. Not here: what a
server does meanwhile (`raft.core`, `raft.requests`).
"""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from replog.cli import clusters, output
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.config import ClusterConfig

WAIT_S: Final = 10.0
EVERY_S: Final = 0.1


def pause(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Have requests wait at the leader, none lost, until `replog member resume` (Raft).

    What was ordered before is finished. Changes of members are ordered all the same. A server that is started anew
    meanwhile is paused, too. What waits is bounded by pending_requests_max and the clients' own time-outs.

    Example: replog member pause && replog member replace 2 && replog member resume
    """
    _say(cluster, paused=True, json=json)


def resume(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Order what has waited since `replog member pause` (Raft).

    Example: replog member resume
    """
    _say(cluster, paused=False, json=json)


def _say(cluster: Any, *, paused: bool, json: bool) -> None:
    from replog.cli import words
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    if config.spec.name != "raft":
        raise WrongUsage(f"protocol = {config.protocol}: only Raft pauses; its changes of members need no pause")
    words.asked(words.place(folder), {"pause": paused}, output.remark)
    waiting = _until(config, paused=paused)
    if json:
        output.as_json({"cluster": str(folder), "paused": paused, "waiting": waiting})
    elif paused:
        output.line(f"paused; {waiting} operation{'' if waiting == 1 else 's'} waiting")
    else:
        output.line("resumed")


def _until(config: ClusterConfig, *, paused: bool) -> int:
    """Until all servers that run here say so, and what was under way is finished; how many operations wait then. Raises
    NotDone after WAIT_S."""
    from replog.cli.state import current
    from replog.cli.words import NotDone

    end = time.monotonic() + WAIT_S
    while True:
        replicas = [one for one in current(config)["replicas"] if one.get("pid") is not None]
        unlike = [one["node"] for one in replicas if not _is(one, paused=paused)]
        if replicas and not unlike:
            return sum(one["detail"].get("waiting", 0) for one in replicas)
        if time.monotonic() > end:
            word = "paused" if paused else "resumed"
            raise NotDone(f"node {', '.join(map(str, unlike)) or 'none'} is not {word} after {WAIT_S:g} s")
        time.sleep(EVERY_S)


def _is(replica: dict[str, Any], *, paused: bool) -> bool:
    detail = replica.get("detail") or {}
    if "commit_index" not in detail or bool(detail.get("paused")) != paused:
        return False
    return not paused or replica["role"] != "leader" or detail["commit_index"] == detail["log_last"]
