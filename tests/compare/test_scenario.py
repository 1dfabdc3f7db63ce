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
        ('"crash"', '"quake"', "mine.toml:7: timeline.0: 'quake' is unknown; known: apart, crash"),
        ('"all ok"', '"mostly fine"', "mine.toml:5: protocols.pbft.expect = 'mostly fine': must be 'all' or 'some'"),
        ("end_s = 2.0", "end_s = 0.5", "mine.toml:7: timeline.0: end_s = 0.5: must be after start_s = 1.0"),
        ("end_s = 2.0", "end_s = 9.0", "must begin and end before duration_s = 3.0"),
        ("end_s = 2.0", "ends = 2.0", "mine.toml:10: timeline.0.ends = 2.0: there is no such field"),
        ("start_s", 'target = [0, "x"]\nstart_s', "mine.toml:9: timeline.0.target: must be a replica's number, a list"),
        ("start_s", 'target = "nobody"\nstart_s', "mine.toml:9: timeline.0.target = 'nobody': must be a replica's "),
        ("[protocols.pbft]", "[[workload]]", "mine.toml:1: workload: must be a table"),
        ("[[timeline]]", "[timeline]", "timeline: must be a list"),
        ('name = "mine"', 'name = "My Name"', "mine.toml:1: name = 'My Name'"),
        ("start_s = 1.0", "start_s = -1.0", "mine.toml:9: timeline.0.start_s = -1.0"),
        ("[protocols.pbft]", "[protocols.pbft", "mine.toml: "),
        ("end_s = 2.0", "options = { loss = 0.5 }", "mine.toml:7: timeline.0: options of crash: loss = 0.5: "),
        ('"crash"', '"loss"\noptions = { loss = 2 }', "mine.toml:7: timeline.0: options of loss: loss = 2: "),
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
