"""Scenario files: what they say, and what is said about wrong ones."""

from pathlib import Path

import pytest

from compare.runner import run
from compare.scenario import catalogue, find, parse
from replog.errors import ConfigError

GOOD = """name = "mine"
summary = "a crash"

[protocols.pbft]
expect = "all ok"

[[timeline]]
fault = "crash"
start_s = 1.0
end_s = 2.0
"""


def test_the_catalogue_has_the_first_scenarios_under_their_own_names() -> None:
    assert {"no-fault", "leader-crash", "equivocating-leader"} <= set(catalogue())
    assert all(name == scenario.name for name, scenario in catalogue().items())


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    scenario = find(str(tmp_path / "mine.toml"))
    assert scenario.timeline[0].name == "crash"
    assert scenario.handle == str(tmp_path / "mine.toml")
    assert find("no-fault").handle == "no-fault"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"crash"', '"quake"', "mine.toml:8: timeline.0.fault = 'quake': is unknown; known: amnesia"),
        ('"all ok"', '"mostly fine"', "mine.toml:5: protocols.pbft.expect = 'mostly fine': must be 'all' or 'some'"),
        ("end_s = 2.0", "end_s = 0.5", "mine.toml:10: timeline.0.end_s = 0.5: must be after start_s = 1.0"),
        ("end_s = 2.0", "end_s = 9.0", "mine.toml:10: timeline.0.end_s = 9.0: must be before duration_s = 3.0"),
        ("end_s = 2.0", "ends = 2.0", "mine.toml:10: timeline.0.ends = 2.0: there is no such field"),
        ("start_s", 'target = [0, "x"]\nstart_s', "mine.toml:9: timeline.0.target: must be a replica's number, a list"),
        ("start_s", 'target = "nobody"\nstart_s', "mine.toml:9: timeline.0.target = 'nobody': must be a replica's "),
        ("[protocols.pbft]", "[[workload]]", "mine.toml:1: workload: must be a table"),
        ("[[timeline]]", "[timeline]", "timeline: must be a list"),
        ('name = "mine"', 'name = "My Name"', "mine.toml:1: name = 'My Name'"),
        ("start_s = 1.0", "start_s = -1.0", "mine.toml:9: timeline.0.start_s = -1.0"),
        ("[protocols.pbft]", "[protocols.pbft", "mine.toml: "),
        (
            "end_s = 2.0",
            "options = { loss = 0.5 }",
            "mine.toml:10: timeline.0.options.loss = 0.5: there is no such field",
        ),
        ('"crash"', '"loss"\noptions = { loss = 2 }', "mine.toml:9: timeline.0.options.loss = 2: must be"),
    ],
)
def test_an_error_names_line_field_and_rule(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(GOOD.replace(old, new), "mine.toml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"mine\.toml: must be UTF-8: invalid start byte at byte 8"):
        find(str(tmp_path / "mine.toml"))


def test_a_run_that_cannot_be_made_is_refused_before_any_is(tmp_path: Path) -> None:
    nobody = parse(GOOD.replace("start_s", "target = 4\nstart_s"), "mine.toml")
    with pytest.raises(ConfigError, match=r"scenario mine: target = 4: with pbft the nodes are 0 \.\. 3"):
        run(["no-fault", nobody], on_run=lambda *_: pytest.fail("something ran"))


def test_two_scenarios_of_one_name_are_refused() -> None:
    other = find("no-fault").model_copy(update={"duration_s": 1.0})
    with pytest.raises(ConfigError, match="scenario no-fault: no-fault and no-fault differ under one name"):
        run(["no-fault", other])


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no-fault"):
        find("nope")


NESTED = """name = "mine"
summary = "a wide area"
duration_s = 3.0

[network]
loss = 0.1

[network.wan]
replicas = ["dallas", "london"]

[network.timing]
kind = "partially synchronous"
stabilises_s = 2.0

[placement]
rack = ["a", "b"]

[[timeline]]
fault = "late"
target = "rack a"
start_s = 1.0

[timeline.options]
delay_ms = 5
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("loss = 0.1", "loss = 1.1", "mine.toml:6: network.loss = 1.1: must be less than or equal to 1"),
        ('"london"', '"atlantis"', "mine.toml:9: network.wan.replicas.1 = 'atlantis': must be"),
        ("stabilises_s = 2.0", "", "mine.toml:11: network.timing: stabilises_s: must be given where kind is"),
        ('"partially synchronous"', '"asynchronous"', "mine.toml:11: network.timing: stabilises_s: must be given"),
        ('"partially synchronous"\nstabilises_s = 2.0', '"synchronous"', "mine.toml:5: network: loss and corrupt must"),
        (
            "stabilises_s = 2.0",
            "stabilises_s = 3.0",
            "mine.toml:11: network.timing = 3.0: must be before duration_s",
        ),
        ("rack a", "rack c", "mine.toml:20: timeline.0.target = 'rack c': [placement] has no such place"),
        ("rack a", "shelf a", "mine.toml:20: timeline.0.target = 'shelf a': must be a replica's number"),
        ("delay_ms = 5", "delay_ms = 0", "mine.toml:24: timeline.0.options.delay_ms = 0: must be"),
        (
            "[placement]",
            "[workload]\nkind = 'bank'\nkeys = 1\n[placement]",
            "mine.toml:15: workload: keys = 1: must",
        ),
        ("duration_s = 3.0", "duration_s = 3.0\nn = 7\nf = 2", "mine.toml:4: n = 7: must not stand beside f"),
    ],
)
def test_an_error_in_a_nested_table_names_its_line(old: str, new: str, said: str) -> None:
    assert parse(NESTED, "mine.toml").timeline[0].group == ("rack", "a")
    with pytest.raises(ConfigError) as error:
        parse(NESTED.replace(old, new), "mine.toml")
    assert said in str(error.value)


def test_what_no_real_link_can_promise_is_refused_on_real_processes() -> None:
    with pytest.raises(ConfigError, match=r"network\.timing: cannot be promised of links on live"):
        run(parse(NESTED.replace("loss = 0.1", "").replace('fault = "late"', 'fault = "crash"')
                  .replace("[timeline.options]\ndelay_ms = 5", ""), "mine.toml"), engine="live")  # fmt: skip


def test_a_mutant_of_another_protocol_is_refused() -> None:
    text = GOOD.replace('"crash"', '"mutant"\noptions = { raft = "compare.mutants.broken_raft:CommitsAlone" }')
    with pytest.raises(ConfigError, match="scenario mine: the fault mutant names no core for pbft"):
        run(parse(text, "mine.toml"))


def test_a_core_that_is_not_there_is_named_before_anything_runs() -> None:
    text = GOOD.replace('"crash"', '"mutant"\noptions = { pbft = "compare.mutants.broken_pbft:Nobody" }')
    with pytest.raises(ConfigError, match="there is no such class"):
        run(parse(text, "mine.toml"), seeds=1, workers=1)


def test_options_that_an_older_version_never_had_are_named() -> None:
    text = GOOD.replace('"crash"', '"old-version"\noptions = { pbft = { telepathy = true } }')
    with pytest.raises(ConfigError, match="scenario mine, protocol pbft: telepathy"):
        run(parse(text, "mine.toml"), seeds=1, workers=1)
