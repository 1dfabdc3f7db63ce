"""Tables: a dictionary in use, canonical records and undo underneath, and types that hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.merkle import KEY_BYTES_MAX, build
from replog.table import MISSING, Kind, Table

quick = settings(deadline=None, max_examples=60)
TEXT = st.text(max_size=4)
WRITES = st.lists(st.tuples(TEXT, TEXT | st.none()), max_size=40)


class Point(msgspec.Struct):
    x: int
    tags: list[str] = []


class Tree(msgspec.Struct):
    below: list[Tree] = []


def write(table: Table[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def digest(table: Table[Any, Any]) -> bytes:
    """Of all its records, as a new table would give them."""
    copy: Table[Any, Any] = Table(table._key.type, table._value.type)
    for key, value in table.items():
        copy[key] = value
    return build({key: value for key, value in copy.take_changes() if value is not None}).digest


class TestInUse:
    @quick
    @given(WRITES)
    def test_it_does_what_a_dict_does(self, writes: list[tuple[str, str | None]]) -> None:
        table: Table[str, str] = Table(str, str)
        model: dict[str, str] = {}
        for key, value in writes:
            write(table, key, value)
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
            assert table.get(key) == model.get(key)
            assert (key in table, len(table)) == (key in model, len(model))
            assert list(table.items()) == sorted(model.items())

    @quick
    @given(WRITES, TEXT, st.none() | st.integers(0, 5))
    def test_a_scan_gives_the_prefix_in_order(self, writes: list, prefix: str, limit: int | None) -> None:
        table: Table[str, str] = Table(str, str)
        for key, value in writes:
            write(table, key, value)
            expected = [(k, v) for k, v in sorted(table.items()) if k.startswith(prefix)]
            assert table.scan(prefix, limit) == (expected if limit is None else expected[:limit])

    def test_writing_does_not_disturb_iteration(self) -> None:
        table: Table[int, int] = Table(int, int)
        for key in range(5):
            table[key] = key
        for key in table:
            table[key + 100] = 0
            assert list(table)[:5] == [0, 1, 2, 3, 4]
        assert len(table) == 10

    def test_the_other_words_of_a_dict(self) -> None:
        table: Table[bytes, int] = Table(bytes, int)
        table[b"b"], table[b"a"] = 2, 1
        assert (list(table.keys()), list(table.values())) == ([b"a", b"b"], [1, 2])
        assert table.pop(b"a") == 1
        assert table.pop(b"a", 7) == 7
        assert table.get(b"a", 8) == 8
        with pytest.raises(KeyError):
            table.pop(b"a")
        with pytest.raises(KeyError):
            del table[b"a"]
        table.clear()
        assert len(table) == 0
        assert repr(table) == "Table(0 entries)"


class TestRecords:
    @quick
    @given(st.dictionaries(TEXT, TEXT), st.randoms(use_true_random=False))
    def test_history_leaves_no_trace(self, content: dict[str, str], rng: Any) -> None:
        tables = []
        for _ in range(2):
            table: Table[str, str] = Table(str, str)
            order = list(content)
            rng.shuffle(order)
            for key in order:
                table[key + "gone"] = "x"
                table[key] = "earlier"
                table[key] = content[key]
            for key in order:
                if key + "gone" not in content:
                    del table[key + "gone"]
                else:
                    table[key + "gone"] = content[key + "gone"]
            tables.append(table)
        assert digest(tables[0]) == digest(tables[1])
        records = [dict(table.take_changes()) for table in tables]
        assert records[0] == records[1]

    def test_only_what_was_written_is_given(self) -> None:
        table: Table[str, int] = Table(str, int)
        table["a"], table["b"] = 1, 2
        assert len(dict(table.take_changes())) == 2
        assert dict(table.take_changes()) == {}
        table["b"] = 3
        del table["a"]
        assert dict(table.take_changes()) == {b"\xa1a": None, b"\xa1b": b"\x03"}

    @pytest.mark.parametrize(
        ("key", "value", "entries"),
        [
            (str, str, {"a": "b", "ä": ""}),
            (int, bool, {-1: True, 2**64 - 1: False}),
            (bytes, bytes, {b"\x00": b"\xff"}),
            (str, Point, {"p": Point(1, ["t"])}),
            (str, list[int], {"l": [1, 2]}),
            (str, dict[str, int], {"d": {"b": 1, "a": 2}}),
            (str, int | None, {"n": None, "m": 1}),
            (str, set[str], {"s": {"b", "a", "c"}}),
        ],
    )
    def test_records_come_back(self, key: Any, value: Any, entries: dict[Any, Any]) -> None:
        table: Table[Any, Any] = Table(key, value)
        copy: Table[Any, Any] = Table(key, value)
        for name, content in entries.items():
            table[name] = content
        for record in table.take_changes():
            copy.put_back(*copy.parse(*record))
        assert dict(copy.items()) == entries

    def test_a_record_of_another_type_is_an_error(self) -> None:
        table: Table[str, int] = Table(str, int)
        with pytest.raises(msgspec.MsgspecError):
            table.parse(b"\xa1a", b"\xa1a")
        with pytest.raises(msgspec.MsgspecError):
            table.parse(b"\x01", b"\x01")
        structs: Table[str, Point] = Table(str, Point)
        with pytest.raises(msgspec.MsgspecError):
            structs.parse(b"\xa1a", b"\x01")


class TestUndo:
    @quick
    @given(WRITES, WRITES)
    def test_undone_writes_leave_no_trace(self, before: list, after: list) -> None:
        table: Table[str, str] = Table(str, str)
        for key, value in before:
            write(table, key, value)
        content, order = dict(table.items()), table.scan("")
        undo: list[Any] = []
        table.journal_to(undo)
        for key, value in after:
            write(table, key, value)
        for target, key, kept in reversed(undo):
            target.put_back(key, kept)
        assert dict(table.items()) == content
        assert table.scan("") == order

    def test_what_is_handed_out_is_a_copy(self) -> None:
        table: Table[str, Point] = Table(str, Point)
        point = Point(1, ["a"])
        table["p"] = point
        point.tags.append("outside")
        table["p"].tags.append("lost")
        next(iter(table.values())).x = 9
        assert table["p"] == Point(1, ["a"])
        assert table.get("p") is not table.get("p")


class TestTypes:
    @pytest.mark.parametrize(
        ("key", "value", "wrong_key", "wrong_value"),
        [
            (str, int, 1, "1"),
            (str, int, b"a", True),
            (int, str, True, 1),
            (int, str, 1.0, b"a"),
            (bytes, bytes, "a", bytearray(b"a")),
            (str, bool, None, 1),
            (str, list[int], 1, ["a"]),
            (str, Point, 1, object()),
            (str, int, "\ud800", 2**64),
            (str, str, "a" * KEY_BYTES_MAX, "\ud800"),
        ],
    )
    def test_what_is_of_another_type_is_not_taken(self, key: Any, value: Any, wrong_key: Any, wrong_value: Any) -> None:
        table: Table[Any, Any] = Table(key, value)
        good = {str: "k", int: 1, bytes: b"k"}[key]
        right: Any = {str: "v", int: 1, bytes: b"v", bool: True, Point: Point(1)}.get(value, [1])
        with pytest.raises((TypeError, ValueError, OverflowError)):
            table[wrong_key] = right
        with pytest.raises((TypeError, ValueError, OverflowError)):
            table[good] = wrong_value
        assert len(table) == 0
        assert dict(table.take_changes()) == {}

    def test_an_equal_key_of_another_type_deletes_nothing(self) -> None:
        table: Table[int, int] = Table(int, int)
        table[1] = 1
        with pytest.raises(TypeError):
            del table[True]
        assert list(table) == [1]

    @pytest.mark.parametrize("key", [float, tuple[int, int], list[int], bool, Point])
    def test_keys_are_simple(self, key: Any) -> None:
        with pytest.raises(TypeError, match="keys are int, str or bytes"):
            Table(key, int)

    @pytest.mark.parametrize(
        ("type_", "rule"),
        [
            (float, "float"),
            (list[float], "float"),
            (dict[str, tuple[int, float]], "float"),
            (int | float, "float"),
            (Any, "Any"),
            (object, "no canonical encoding"),
            (complex, "complex"),
            (dict[int, int], "keys other than str"),
        ],
    )
    def test_what_has_no_canonical_encoding_is_no_state(self, type_: Any, rule: str) -> None:
        with pytest.raises(TypeError, match=rule):
            Kind(type_)

    def test_a_type_may_contain_itself(self) -> None:
        kind = Kind(Tree)
        assert kind.unpack(kind.pack(Tree([Tree()]))) == Tree([Tree()])

    def test_maps_and_sets_have_one_encoding(self) -> None:
        assert Kind(dict[str, int]).pack({"b": 1, "a": 2}) == Kind(dict[str, int]).pack({"a": 2, "b": 1})
        assert Kind(set[str]).pack({"b", "a"}) == Kind(set[str]).pack({"a", "b"})

    def test_missing_says_so(self) -> None:
        assert repr(MISSING) == "MISSING"
