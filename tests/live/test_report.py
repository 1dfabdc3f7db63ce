"""The sentence that `replog status` ends in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from replog import create_cluster
from replog.cli.state import rows_of, settings
from replog.interface import Said
from replog.live.report import held_view, pending_of, report, role_of, summary
from replog.membership import Configuration, Member
from replog.types import NOBODY, Status


def status(
    node: int, *, view: int = 0, leader: int = 0, in_sync: bool = True, role: str = "backup", **more: object
) -> Status:
    given = {"index": 9, "stable": 0, "reason": "", **more}
    return Status(node=node, protocol="pbft", role=role, view=view, leader=leader, in_sync=in_sync, **given)  # type: ignore[arg-type]


def pbft(statuses: dict[int, Status | None], quorum: int = 3) -> str:
    return summary(statuses, quorum, "view", "primary")


def raft(statuses: dict[int, Status | None], quorum: int = 2) -> str:
    return summary(statuses, quorum, "term", "leader")


def test_all_well() -> None:
    assert (
        pbft({node: status(node) for node in range(4)})
        == "4 of 4 in sync, quorum ok, one more failure is tolerated; view 0"
    )


def test_the_sentence_of_the_issue() -> None:
    given: dict[int, Status | None] = {node: status(node, view=2, leader=2) for node in range(1, 4)}
    given[1] = status(1, view=2, leader=2, reason="node 0 was silent for 1.2 s")
    given[0] = None
    assert pbft(given) == (
        "3 of 4 in sync, quorum ok, one more failure stops writes; view 2 because node 0 was silent for 1.2 s"
    )


def test_more_than_one_to_spare() -> None:
    assert "two more failures are tolerated" in raft({node: status(node) for node in range(5)}, quorum=3)


def test_too_few_alive_to_say_more_of_them() -> None:
    given: dict[int, Status | None] = {0: status(0, in_sync=False), 1: None, 2: None, 3: status(3, in_sync=False)}
    assert pbft(given) == "2 of 4 alive, no quorum (3 needed), writes wait; nodes 1 and 2 do not answer"


def test_enough_alive_and_what_holds_them() -> None:
    given: dict[int, Status | None] = {
        0: status(0),
        1: None,
        2: status(2),
        3: status(3, in_sync=False, role="fetching state", index=4),
    }
    assert pbft(given) == (
        "3 of 4 alive, 2 of them in sync, no quorum (3 needed), writes wait; "
        "node 1 does not answer, node 3 is fetching state at index 4"
    )


def test_nobody_answers() -> None:
    assert pbft(dict.fromkeys(range(4))) == (
        "0 of 4 alive, no quorum (3 needed), writes wait; nodes 0, 1, 2 and 3 do not answer"
    )


def test_an_election_under_way() -> None:
    given: dict[int, Status | None] = {
        node: status(node, view=3, leader=NOBODY, reason="no leader for 0.3 s") for node in range(3)
    }
    assert (
        raft(given)
        == "3 of 3 in sync, quorum ok, no leader yet, writes wait; term 3 because there was no leader for 0.3 s"
    )


def test_the_view_of_the_majority_counts() -> None:
    given: dict[int, Status | None] = {node: status(node, view=1) for node in range(1, 4)}
    given[0] = status(0, view=9, reason="a lie")
    assert pbft(given).endswith("; view 1")


@pytest.mark.parametrize(
    ("reasons", "end"),
    [
        (["start"], "view 2"),
        (["just started"], "view 2"),
        (["restart"], "view 2, as before the restart"),
        (["restart", "a quorum asked for view 2"], "view 2 because a quorum asked for view 2"),
        (["2 replicas asked for view 2", "node 1 was silent for 1.2 s"], "view 2 because node 1 was silent for 1.2 s"),
        (
            ["node 1 leads", "no heartbeat from node 0 for 0.2 s"],
            "because there was no heartbeat from node 0 for 0.2 s",
        ),
        (["heard no majority for 0.3 s"], "view 2 because its leader heard no majority for 0.3 s"),
        (["the only voter"], "view 2, elected by the only voter"),
    ],
)
def test_why_a_view_began(reasons: list[str], end: str) -> None:
    assert pbft({node: status(node, view=2, reason=reason) for node, reason in enumerate(reasons)}, 1).endswith(end)


def test_who_leads_another_view_says_which() -> None:
    primary = [status(node, view=node, role="primary") for node in range(4)]
    statuses: dict[int, Status | None] = {0: primary[0], 1: status(1, view=1), 2: None, 3: primary[3]}
    held = held_view(statuses, 2)
    assert held == 1
    shown = [role_of(status, held, "view", "primary") for status in (primary[0], primary[1], primary[3])]
    assert shown == ["primary of view 0", "primary", "primary of view 3"]
    assert held_view({0: None, 1: primary[1]}, 2) is None
    assert role_of(primary[0], None, "view", "primary") == "primary"


@pytest.mark.parametrize("say", [pbft, raft])
def test_one_line_whatever_comes(say: Callable[[dict[int, Status | None]], str]) -> None:
    assert "\n" not in say({0: status(0, reason="a\nb"), 1: None, 2: status(2)})


def test_the_members_of_the_epoch_are_counted_and_no_others(tmp_path: Path) -> None:
    """One that is to join is shown and not counted; a change under way is believed when a weak quorum says so."""
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    members = tuple(Member(node, "h", 4700 + node, bytes([node]) * 32) for node in (0, 2, 3, 4))
    known, pending = Configuration(1, 385, 1, members, 6), {"pending": "epoch 2 after seq 768"}
    said = [Said(node, status(node, detail=pending if node < 3 else {})) for node in (0, 2, 3, 4, 5)]
    told = report(config, said, {}, known, {5: "h:4705"})
    assert (told["epoch"], told["n"], told["members"], told["in_sync"]) == (1, 4, [0, 2, 3, 4], 4)
    assert told["pending"] == "epoch 2 after seq 768"
    assert [row[2] for row in rows_of(config, told, False)[1]] == ["h:4700", "h:4702", "h:4703", "h:4704", "h:4705"]
    assert settings(told).startswith("pbft, n = 4, f = 1, epoch 1 of members 0, 2, 3, 4; epoch 2 after seq 768, auth")
    assert told["sentence"].startswith("4 of 4 in sync")


def test_one_liar_makes_no_change() -> None:
    said = {node: status(node, detail={"pending": "epoch 9 after seq 1"} if node == 1 else {}) for node in range(4)}
    assert pending_of(said, 2) is None
