"""Leadership of Raft that is moved again and again under load. [Ongaro14 3.10]"""

from compare.judging import conclude
from compare.results import Verdict
from compare.scenario import parse
from compare.sim import Trial
from replog import protocols

SCENARIO = """
name = "moving-leader"
summary = "an operator moves the leadership every 200 ms"
duration_s = 3.0
f = 2
[workload]
clients = 8
outstanding = 1
pause_ms = 5.0
"""
FIRST_US, EVERY_US, MOVES = 1_000_000, 200_000, 8
WAIT_US = 150_000
"""An election takes more than twice as long, a client's own patience four times."""


def test_no_request_waits_for_a_time_out_while_the_leadership_moves() -> None:
    """What waits at the old leader is sent on to the new one, and no election time-out passes."""
    trial = Trial(parse(SCENARIO, "x.toml"), protocols.find("raft"), 1)
    cluster = trial.cluster
    leaders: list[int] = []

    def move() -> None:
        leader = cluster.leader()
        assert leader is not None, "somebody leads whenever the next move is due"
        leaders.append(leader)
        cluster.command(leader, "move-leader", to=(leader + 1) % cluster.n)

    for place in range(MOVES):
        cluster.after(FIRST_US + place * EVERY_US, move)
    run = conclude(trial.run())
    assert run.verdict is Verdict.OK
    first = leaders[0]
    assert leaders == [(first + place) % cluster.n for place in range(MOVES)], "every move came about"
    calls = [call for call in trial.calls if call.invoke > FIRST_US]
    waits = [call.returned - call.invoke for call in calls if call.returned is not None]
    assert len(waits) > 1_000
    assert max(waits) < WAIT_US
