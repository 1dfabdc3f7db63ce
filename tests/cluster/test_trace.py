"""Traces: what is kept, how it is told, and that it can be read back."""

import io
from pathlib import Path
from typing import Any

import pytest

from replog.codec import Domain, digest_of
from replog.core import Accuse, Apply, Note, Persist, Received, Save, Send, SetTimer, Started
from replog.errors import ConfigError
from replog.keys import HashSigner
from replog.trace import Recorder, plain, read, to_text
from replog.types import Request, StatusRequest, Submit

REQUEST = Request.make(HashSigner(b"k" * 32).sign, Domain("test"), "ann", 3, 0, [b"one", b"two"])

EVERYTHING: list[Any] = [
    SetTimer("view", 1_000),
    Persist(StatusRequest(1), 4),
    Send((1, 2), Submit(b"\x00\xff")),
    Apply(4, [REQUEST], 17, b"s"),
    Note("checkpoint", {"index": 4, "digest": "ab"}),
    Note("view", {"view": 1, "leader": 1, "reason": "time-out"}),
    Note("nonsense", {"sender": 2, "rule": "a digest is of the body"}),
    Accuse(2, "two-pre-prepares", StatusRequest(1), StatusRequest(2)),
]


def tell(recorder: Recorder) -> None:
    """As a world does: the step's effects, and those that come out of the outbox."""
    recorder.effects(2, 0, EVERYTHING)
    for effect in EVERYTHING:
        recorder.decision(2, 0, effect)


def test_everything_is_told_by_class_and_field() -> None:
    recorder = Recorder("all")
    recorder.event(1, 0, Received(2, Submit(b"\x01")))
    tell(recorder)
    recorder.world(3, 0, "crash")
    lines = recorder.lines
    assert lines[0] == {
        "t": 1,
        "node": 0,
        "event": {"kind": "Received", "sender": 2, "message": {"message": "Submit", "request": "01"}},
    }
    kinds = [line["effect"]["kind"] for line in lines[1:-1]]
    assert kinds == ["SetTimer", "Persist", "Send", "Note", "Apply", "Note", "Note", "Accuse"]
    assert lines[2]["effect"] == {"kind": "Persist", "index": 4, "record": {"message": "StatusRequest", "token": 1}}
    assert lines[4]["effect"]["note"] == "nonsense"
    assert lines[8]["effect"]["rule"] == "two-pre-prepares"
    assert lines[-1] == {"t": 3, "node": 0, "world": {"kind": "crash"}}


def test_an_apply_tells_who_and_what_but_no_bodies() -> None:
    recorder = Recorder()
    tell(recorder)
    apply = recorder.lines[0]["effect"]
    assert apply["requests"] == [{"client": "ann", "timestamp": 3, "digest": digest_of(REQUEST.body).hex(), "count": 2}]
    assert REQUEST.raw.hex() not in to_text(recorder.lines[0])


def test_decisions_are_what_judges_may_read_and_no_more() -> None:
    recorder = Recorder("decisions")
    recorder.event(1, 0, Started())
    tell(recorder)
    recorder.world(3, 0, "crash")
    kept = [(line["effect"]["kind"], line["effect"].get("note")) for line in recorder.lines]
    assert kept == [("Apply", None), ("Note", "checkpoint"), ("Note", "view"), ("Accuse", None)]


def test_a_file_gives_back_the_lines(tmp_path: Path) -> None:
    recorder = Recorder("all")
    tell(recorder)
    recorder.write(tmp_path / "trace.jsonl")
    assert list(read(tmp_path / "trace.jsonl")) == recorder.lines


def test_a_sink_gets_the_same_bytes(tmp_path: Path) -> None:
    sink = io.StringIO()
    streaming, keeping = Recorder("all", sink), Recorder("all")
    for recorder in (streaming, keeping):
        tell(recorder)
    keeping.write(tmp_path / "trace.jsonl")
    assert sink.getvalue() == (tmp_path / "trace.jsonl").read_text()
    assert streaming.lines == []


@pytest.mark.parametrize("text", ["{", "[]", '{"t": 1}'])
def test_a_line_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"t": 1, "node": 0}\n' + text + "\n")
    with pytest.raises(ConfigError, match=r"trace\.jsonl:2: "):
        list(read(path))


def test_sets_and_odd_values_have_one_form() -> None:
    assert plain({3, 1, 2}) == [1, 2, 3]
    assert plain({"a": (b"\x01", None)}) == {"a": ["01", None]}
    assert plain(object()) == "object", "no address ever reaches a trace"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="'some'"):
        Recorder("some")  # type: ignore[arg-type]


def test_a_checkpoint_being_saved_is_named_not_shown() -> None:
    class Handle:
        index, digest = 4, b"\xab"

    assert plain(Save(Handle())) == {"kind": "Save", "index": 4, "digest": "ab"}
