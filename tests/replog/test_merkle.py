"""The tree of records: one shape for one content, checkpoints that stay, transfer of what differs, lies refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog import merkle
from replog.merkle import EMPTY, Assembly, build, differences, following, read_part, records_of, update, walk

quick = settings(deadline=None, max_examples=60)
RECORDS = st.dictionaries(st.binary(max_size=12), st.binary(max_size=300), max_size=60)
CHANGES = st.dictionaries(st.binary(max_size=12), st.none() | st.binary(max_size=300), max_size=30)


def many(number: int, seed: int = 0, size: int = 20) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    return {b"key%06d" % key: rng.randbytes(size) for key in range(number)}


def with_changes(records: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    return {key: value for key, value in {**records, **changes}.items() if value is not None}


class TestShape:
    @quick
    @given(RECORDS, st.lists(CHANGES, max_size=4))
    def test_the_digest_depends_on_the_content_alone(self, records: dict, steps: list[dict]) -> None:
        tree = build(records)
        for changes in steps:
            records = with_changes(records, changes)
            tree = update(tree, changes)
        assert tree.digest == build(records).digest
        assert records_of(tree) == records

    @quick
    @given(RECORDS, RECORDS)
    def test_the_digest_tells_contents_apart(self, one: dict, other: dict) -> None:
        assert (build(one).digest == build(other).digest) == (one == other)

    def test_a_tree_that_shrinks_is_as_if_it_had_never_grown(self) -> None:
        records = many(2_000)
        tree = build(records)
        gone: dict[bytes, bytes | None] = dict.fromkeys(list(records)[3:])
        assert update(tree, gone).digest == build(dict(list(records.items())[:3])).digest
        assert update(tree, dict.fromkeys(records)) is EMPTY

    def test_a_change_makes_few_nodes(self) -> None:
        tree = build(many(20_000))
        before = nodes(tree)
        after = nodes(update(tree, {b"key000007": b"new"}))
        assert len(before) > 4_000
        assert len(after - before) <= 5

    @quick
    @given(RECORDS, CHANGES)
    def test_an_older_tree_stays_as_it_was(self, records: dict, changes: dict) -> None:
        tree = build(records)
        update(tree, changes)
        assert records_of(tree) == records

    @quick
    @given(RECORDS, CHANGES)
    def test_differences_make_one_tree_of_the_other(self, records: dict, changes: dict) -> None:
        old, new = build(records), build(with_changes(records, changes))
        found = dict(differences(old, new))
        assert update(old, found).digest == new.digest
        assert len(found) <= len(changes)


def nodes(node: merkle.Node) -> set[int]:
    """Identities of all nodes; only meaningful while the trees are alive."""
    below = node.children if isinstance(node, merkle.Inner) else ()
    return {id(node)}.union(*(nodes(child) for child in below))


class TestValuesOfAnySize:
    @quick
    @given(st.lists(st.integers(0, 4 * merkle.CHUNK_BYTES).map(lambda size: b"v" * size) | st.none(), min_size=1))
    def test_a_value_is_cut_and_joined(self, values: list[bytes | None]) -> None:
        tree, pieces = EMPTY, 1
        for value in values:
            before = tree
            records = dict(merkle.cut(b"\xa1k", value, pieces))
            assert all(len(record or b"") <= merkle.CHUNK_BYTES for record in records.values())
            tree = update(tree, records)
            pieces = max(1, -(-len(value or b"") // merkle.CHUNK_BYTES))
            expected = value or None  # cut gives no record for no bytes; every encoded value has some
            assert merkle.join(tree, b"\xa1k") == expected
            assert tree.count == (0 if expected is None else pieces)
            changed = dict(merkle.value_differences(before, tree))
            assert changed in ({}, {b"\xa1k": expected})


class TestParts:
    @quick
    @given(st.integers(0, 3_000), st.integers(0, 400))
    def test_following_walks_as_walk_does(self, number: int, size: int) -> None:
        tree = build(many(number, size=size % 97))
        listed = list(walk(tree))
        part, followed = 0, []
        while part != -1:
            followed.append((part, read_part(tree, part)))
            part = following(tree, part)
        assert followed == listed

    def test_parts_are_bounded(self) -> None:
        tree = build(many(5_000, size=90) | {b"\xa1k": b"v" * merkle.CHUNK_BYTES})
        assert max(len(data) for _, data in walk(tree)) <= merkle.PART_BYTES_MAX

    def test_a_part_that_is_not_there_is_none(self) -> None:
        tree = build(many(5_000))
        assert read_part(tree, -1) is None
        assert read_part(tree, 2**62) is None
        assert read_part(EMPTY, 2) is None
        assert read_part(tree, merkle.FANOUT**4) is None

    def test_only_what_changed_is_walked(self) -> None:
        old = build(many(20_000))
        new = update(old, {b"key000007": b"new"})
        changed = dict(walk(new, old))
        assert 1 < len(changed) < 8
        assert load(new.digest, dict(walk(old)) | changed) == records_of(new)


def load(digest: bytes, parts: dict[int, bytes]) -> dict[bytes, bytes]:
    assembly = Assembly(digest, EMPTY)
    while assembly.root is None:
        for part in assembly.wanted():
            assert assembly.add(part, parts[part])
    return records_of(assembly.root)


def fetch(assembly: Assembly, source: merkle.Node) -> dict[tuple[int, bytes], bytes]:
    """Give an assembly what it wants; what was moved for each part and hint."""
    moved: dict[tuple[int, bytes], bytes] = {}
    while assembly.root is None:
        hints = assembly.hints()
        for asked in [(part, hints.get(part, b"")) for part in assembly.wanted()]:
            data = read_part(source, *asked)
            assert data is not None
            assert asked not in moved, "nothing is asked for twice"
            moved[asked] = data
            assert assembly.add(asked[0], data)
    return moved


def size(moved: dict[tuple[int, bytes], bytes]) -> int:
    return sum(len(hint) + len(data) for (_, hint), data in moved.items())


class TestAssembly:
    @quick
    @given(st.integers(0, 2_000), CHANGES)
    def test_any_tree_becomes_any_other(self, number: int, changes: dict) -> None:
        records = many(number)
        local, target = build(records), build(with_changes(records, changes))
        assembly = Assembly(target.digest, local)
        fetch(assembly, target)
        assert assembly.root is not None
        assert records_of(assembly.root) == records_of(target)
        assert assembly.root.digest == target.digest

    @quick
    @given(RECORDS, RECORDS)
    def test_unrelated_trees_too(self, mine: dict, theirs: dict) -> None:
        assembly = Assembly(build(theirs).digest, build(mine))
        fetch(assembly, build(theirs))
        assert assembly.root is not None
        assert records_of(assembly.root) == theirs

    def test_what_is_the_same_is_not_moved(self) -> None:
        records = many(20_000)
        local = build(records)
        target = update(local, dict.fromkeys(random.Random(1).sample(sorted(records), 20), b"other"))
        moved = fetch(Assembly(target.digest, local), target)
        whole = sum(len(data) for _, data in walk(target))
        assert size(moved) < whole * 0.02

    def test_where_all_is_new_pages_are_moved(self) -> None:
        target = build(many(20_000, seed=1))
        moved = fetch(Assembly(target.digest, EMPTY), target)
        assert {part: data for (part, _), data in moved.items()} == dict(walk(target))
        strange = fetch(Assembly(target.digest, build(many(20_000, seed=2))), target)
        assert size(strange) < size(moved) * 1.1

    def test_nothing_is_moved_for_what_is_there(self) -> None:
        local = build(many(500))
        assert Assembly(local.digest, local).root is local

    def test_the_walk_of_another_replica_fits_too(self) -> None:
        """Raft streams all parts in order, whatever the receiver has."""
        records = many(5_000)
        local, target = build(records), build(with_changes(records, {b"key000001": None, b"x": b"y"}))
        assembly = Assembly(target.digest, local)
        for part, data in walk(target):
            assert assembly.add(part, data)
        assert assembly.root is not None
        assert records_of(assembly.root) == records_of(target)

    @quick
    @given(st.integers(0, 2**32), st.sampled_from(["flip", "cut", "add", "swap", "empty", "junk"]))
    def test_a_poisoned_part_is_refused_and_changes_nothing(self, seed: int, lie: str) -> None:
        rng = random.Random(seed)
        target = build(many(1_500))
        assembly = Assembly(target.digest, build(many(200, seed=9)))
        lies = 0
        while assembly.root is None:
            for part in assembly.wanted():
                data = read_part(target, part)
                assert data is not None
                poisoned = poison(rng, lie, data, target)
                if poisoned != data and poisoned[:1] != b"\x93":
                    before = assembly.wanted()
                    assert not assembly.add(part, poisoned)
                    assert (assembly.wanted(), assembly.root) == (before, None)
                    lies += 1
                assert assembly.add(part, data)
        assert lies
        assert records_of(assembly.root) == records_of(target)

    def test_repeating_a_part_or_giving_an_unwanted_one_changes_nothing(self) -> None:
        target = build(many(1_500))
        assembly = Assembly(target.digest, EMPTY)
        while assembly.root is None:
            part = assembly.wanted()[0]
            data = read_part(target, part)
            assert data is not None
            assembly.add(part, data)
            before = assembly.wanted()
            assembly.add(part, data)
            assembly.add(2 * 4**20, b"\x80")
            assert assembly.wanted() == before

    def test_an_attempt_given_up_is_not_lost(self) -> None:
        records = many(5_000)
        target = build(records)
        first = Assembly(target.digest, EMPTY)
        for part, data in list(walk(target))[:9]:
            first.add(part, data)
        later = update(target, dict.fromkeys(list(records)[:50], b"new"))
        second = Assembly(later.digest, EMPTY, first.finished)
        for part, data in list(walk(later))[:2]:
            second.add(part, data)
        third = fetch(Assembly(later.digest, EMPTY, second.finished), later)
        assert size(third) < size(fetch(Assembly(later.digest, EMPTY), later)) * 0.6

    def test_what_is_wanted_is_bounded(self) -> None:
        target = build(many(60_000))
        assembly = Assembly(target.digest, EMPTY)
        most = 0
        while assembly.root is None:
            wanted = assembly.wanted()
            most = max(most, len(wanted))
            for part in wanted:
                assembly.add(part, read_part(target, part) or b"")
        assert most == merkle.WANTED_MAX


class TestHints:
    @quick
    @given(st.integers(0, 2_000), CHANGES, st.binary(max_size=80))
    def test_any_hint_is_answered_by_the_whole_or_a_delta(self, number: int, changes: dict, hint: bytes) -> None:
        """X6: whoever asks may say what it likes."""
        tree = build(many(number))
        for part, whole in walk(tree):
            data = read_part(tree, part, hint)
            assert data == whole or (data is not None and data[:1] == b"\x93" and len(data) <= len(whole) + 8)

    @quick
    @given(st.integers(0, 2**32), st.sampled_from(["flip", "cut", "add", "swap", "empty", "junk"]))
    def test_a_poisoned_delta_leads_nowhere(self, seed: int, lie: str) -> None:
        """P41: it is refused, or the part is asked for again, by another hint or whole."""
        rng = random.Random(seed)
        records = many(1_500)
        target = build(records | dict.fromkeys(rng.sample(sorted(records), 20), b"other"))
        assembly = Assembly(target.digest, build(records))
        lies = 0
        while assembly.root is None:
            part = rng.choice(assembly.wanted())
            data = read_part(target, part, assembly.hints().get(part, b""))
            assert data is not None
            poisoned = poison(rng, lie, data, target)
            if poisoned != data and lies < 30:
                assembly.add(part, poisoned)
                lies += 1
            else:
                assembly.add(part, data)
        assert lies
        assert records_of(assembly.root) == records_of(target)

    @pytest.mark.parametrize(("marks", "number"), [("_marks", 2 * merkle.FANOUT), ("_child_marks", merkle.FANOUT)])
    def test_marks_that_agree_by_chance_cost_another_hint_and_then_the_whole(
        self, marks: str, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records = many(20_000)
        local, target = build(records), build(records | {b"key000007": b"other"})
        honest = fetch(Assembly(target.digest, local), target)
        assert [part for part, _ in honest] == sorted({part for part, _ in honest}), "each part once"
        monkeypatch.setattr(merkle, marks, lambda has, salt: bytes(number))
        assembly = Assembly(target.digest, local)
        asked = [part for part, _ in fetch(assembly, target)]
        assert assembly.root is not None
        assert assembly.root.digest == target.digest
        assert max(map(asked.count, asked)) == 1 + merkle.SALTS

    def test_a_delta_that_is_longer_than_any_is_refused(self) -> None:
        records = many(3_000)
        target = build(records | {b"key000007": b"other"})
        assembly = Assembly(target.digest, build(records))
        assembly.add(0, read_part(target, 0) or b"")
        (part,) = assembly.wanted()
        lie: Any = (0xFFFF, 0xFFFF, many(5_000))
        assert assembly.hints()[part]
        assert not assembly.add(part, merkle._encode(lie))


def poison(rng: random.Random, lie: str, data: bytes, target: merkle.Node) -> bytes:
    at = rng.randrange(len(data))
    if lie == "flip":
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if lie == "cut":
        return data[:at]
    if lie == "add":
        return data + b"\x00"
    if lie == "swap":
        return rng.choice(list(walk(target)))[1]
    return b"" if lie == "empty" else rng.randbytes(40)


# --------------------------------------------------------------------------------------------------- pages of a disk


def large(number: int = 3_000) -> dict[bytes, bytes]:
    return {b"key %d" % place: b"value %d " % place * 6 for place in range(number)}


def test_a_trusted_tree_is_the_same_tree_and_its_pages_wait_until_they_are_needed() -> None:
    records = large()
    root = merkle.build(records)
    parts = dict(merkle.walk(root))
    found = merkle.trusted(root.digest, parts)
    assert isinstance(found, merkle.Inner)
    pages = [node for node in found.children if isinstance(node, merkle.Page)]
    assert pages
    assert (found.digest, found.count, found.size) == (root.digest, root.count, root.size)
    assert merkle.records_of(found) == records
    assert dict(merkle.walk(found)) == parts
    change = {b"key 7": b"other", b"key 9": None}
    assert merkle.update(found, change).digest == merkle.update(root, change).digest
    for page in pages:
        assert merkle.build(merkle.records_of(page)).count == page.count
    for number in range(1, 300):
        assert merkle.read_part(found, number) == merkle.read_part(root, number)


def test_a_trusted_tree_needs_all_its_parts() -> None:
    root = merkle.build(large())
    parts = dict(merkle.walk(root))
    for part in list(parts)[:5]:
        assert merkle.trusted(root.digest, {number: data for number, data in parts.items() if number != part}) is None
    assert merkle.trusted(bytes(32), parts) is None
    assert merkle.trusted(merkle.EMPTY.digest, {}) is merkle.EMPTY


def test_a_page_that_is_another_one_is_never_opened() -> None:
    """Whoever said that the parts are what was saved was wrong: nothing is built on it."""
    root = merkle.build(large())
    parts = dict(merkle.walk(root))
    found = merkle.trusted(root.digest, parts)
    assert isinstance(found, merkle.Inner)
    page = next(node for node in found.children if isinstance(node, merkle.Page))
    page.raw = merkle.build({b"another": b"page"}).data()
    with pytest.raises(ValueError, match="not what its digest says"):
        merkle.update(page, {b"x": b"y"})
