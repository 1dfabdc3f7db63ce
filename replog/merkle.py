"""The replicated state as records (bytes to bytes) in a Merkle tree that is never changed, only replaced.

Here: the tree, its parts as they travel, and the assembly of a tree from parts that nobody is trusted for. Not here:
what a record means (`replog.runtime`, `replog.sessions`), when a checkpoint is taken (`replog.executor`).

The shape is a function of the content alone: a record's place is its key's hash, two bits a level; a node is a leaf as
long as its records are few enough bytes. So the digest does not depend on the history, a change of k records makes
O(k log n) new nodes, and an older tree stays whole beside a newer one: a checkpoint is a reference to a root, which a
worker thread may read. [CL02 partition tree]

Parts. Node p's children are 4p + 1 .. 4p + 4, the root is node 0. Part 2p is node p as it is: a leaf's records, or the
count, size and digest of each child. Part 2p + 1 is everything below node p at once, if it is at most a page. Part 0 is
the root either way. A part's first byte tells which it is: a map holds records, an array of 12 describes children.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Final

import msgspec

from replog.codec import DIGEST_BYTES

FANOUT: Final = 4
DEPTH_MAX: Final = 30
"""Part numbers stay below 2^62. Below it a leaf is a leaf whatever its size: nobody finds keys whose hashes agree in 60
bits often enough to matter."""
LEAF_BYTES: Final = 256
"""Small leaves: what travels for one changed record is its leaf and about 150 bytes a level."""
PAGE_BYTES: Final = 16 * 1024
"""A subtree of at most this size may travel as one part."""
CHUNK_BYTES: Final = 64 * 1024
"""A longer value is cut into several records, so that a part stays below PART_BYTES_MAX."""
KEY_BYTES_MAX: Final = 64 * 1024
PART_BYTES_MAX: Final = 1024 * 1024
"""No part of a correct replica is longer."""
RECORD_OVERHEAD: Final = 8
WANTED_MAX: Final = 64

_encode = msgspec.msgpack.Encoder().encode
_decode_records = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode
_decode_children = msgspec.msgpack.Decoder(
    tuple[int, int, bytes, int, int, bytes, int, int, bytes, int, int, bytes]
).decode
_ARRAY_OF_12: Final = 0x9C

Placed = tuple[int, bytes, bytes]
"""A record with its place: the first 64 bits of a hash of its key."""
Change = tuple[int, bytes, bytes | None]
"""The same, None for a removal."""


def place_of(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


class Node:
    """What lies below one point of the tree: `count` records of `size` bytes, and their digest. Never changed."""

    __slots__ = ("count", "size", "digest")

    count: int
    size: int
    digest: bytes

    def data(self) -> bytes:
        """The node as a part; its digest is the hash of these bytes."""
        raise NotImplementedError


class Leaf(Node):
    """Invariant: at most one record, or at most LEAF_BYTES, or at depth DEPTH_MAX. `raw` has its keys in order."""

    __slots__ = ("raw",)

    def __init__(self, records: dict[bytes, bytes], size: int) -> None:
        self.raw: bytes = _encode(dict(sorted(records.items())))
        self.count = len(records)
        self.size = size
        self.digest = blake2b(self.raw, digest_size=DIGEST_BYTES).digest()

    def data(self) -> bytes:
        return self.raw


class Inner(Node):
    """Invariant: what would fit a leaf is one: more than one record and more than LEAF_BYTES."""

    __slots__ = ("children",)

    def __init__(self, children: tuple[Node, Node, Node, Node]) -> None:
        # Written out, here and below: this runs for every node above a change.
        a, b, c, d = self.children = children
        self.count = a.count + b.count + c.count + d.count
        self.size = a.size + b.size + c.size + d.size
        self.digest = blake2b(self.data(), digest_size=DIGEST_BYTES).digest()

    def data(self) -> bytes:
        a, b, c, d = self.children
        return _encode(
            (a.count, a.size, a.digest, b.count, b.size, b.digest, c.count, c.size, c.digest, d.count, d.size, d.digest)
        )


EMPTY: Final = Leaf({}, 0)

# ------------------------------------------------------------------------------------------------ building and reading


def build(records: Mapping[bytes, bytes]) -> Node:
    """The tree of these records."""
    return _build(_placed(records), 0)


def _placed(records: Mapping[bytes, bytes]) -> list[Placed]:
    """In order of place. Keys are distinct, so sorting never comes to compare values."""
    return sorted((place_of(key), key, value) for key, value in records.items())


def _build(records: list[Placed], depth: int) -> Node:
    if len(records) * RECORD_OVERHEAD <= LEAF_BYTES or depth == DEPTH_MAX:
        leaf = _leaf({key: value for _, key, value in records}, depth)
        if leaf is not None:
            return leaf
    a, b, c, d = (_build(records[low:high], depth + 1) for low, high in _split(records, depth))
    return Inner((a, b, c, d))


def _leaf(records: dict[bytes, bytes], depth: int) -> Node | None:
    """The leaf of `records`, None if they are too much for one."""
    if not records:
        return EMPTY
    size = sum(map(len, records)) + sum(map(len, records.values())) + len(records) * RECORD_OVERHEAD
    return Leaf(records, size) if size <= LEAF_BYTES or len(records) == 1 or depth == DEPTH_MAX else None


def _split(records: list[Placed] | list[Change], depth: int) -> list[tuple[int, int]]:
    """Bounds of the four children's shares of `records`, which are in order of place and belong to one node."""
    shift = 62 - 2 * depth
    base = records[0][0] >> (shift + 2) << 2
    a, b, c = (bisect_left(records, ((base + child) << shift,)) for child in (1, 2, 3))
    return [(0, a), (a, b), (b, c), (c, len(records))]


def update(root: Node, changes: Mapping[bytes, bytes | None]) -> Node:
    """The tree after `changes` (None removes). What is not touched is shared with `root`."""
    if not changes:
        return root
    return _update(root, sorted((place_of(key), key, value) for key, value in changes.items()), 0)


def _update(node: Node, changes: list[Change], depth: int) -> Node:
    if not isinstance(node, Inner):
        return _update_leaf(node, changes, depth)
    children = list(node.children)
    if len(changes) == 1:
        child = changes[0][0] >> (62 - 2 * depth) & 3
        children[child] = _update(children[child], changes, depth + 1)
    else:
        for child, (low, high) in enumerate(_split(changes, depth)):
            if low < high:
                children[child] = _update(children[child], changes[low:high], depth + 1)
    a, b, c, d = children
    after = Inner((a, b, c, d))
    if after.count > 1 and after.size > LEAF_BYTES:
        return after
    leaf = _leaf(records_of(after), depth)
    return after if leaf is None else leaf


def _update_leaf(node: Node, changes: list[Change], depth: int) -> Node:
    records = records_of(node)
    for _, key, value in changes:
        if value is None:
            records.pop(key, None)
        else:
            records[key] = value
    leaf = _leaf(records, depth)
    return _build(_placed(records), depth) if leaf is None else leaf


def records_of(node: Node) -> dict[bytes, bytes]:
    """All records below `node`, in no order that means anything."""
    records: dict[bytes, bytes] = {}
    _collect(node, records)
    return records


def _collect(node: Node, into: dict[bytes, bytes]) -> None:
    if isinstance(node, Leaf):
        into.update(_decode_records(node.raw))
    elif isinstance(node, Inner):
        for child in node.children:
            _collect(child, into)


def find(root: Node, key: bytes) -> bytes | None:
    """The record of `key`."""
    place, shift, node = place_of(key), 62, root
    while isinstance(node, Inner):
        node = node.children[place >> shift & 3]
        shift -= 2
    return records_of(node).get(key)


def differences(old: Node, new: Node) -> Iterator[tuple[bytes, bytes | None]]:
    """The changes that make `new` out of `old`. Costs by what differs."""
    if old.digest == new.digest:
        return
    if isinstance(old, Inner) and isinstance(new, Inner):
        for before, after in zip(old.children, new.children, strict=True):
            yield from differences(before, after)
        return
    earlier, later = records_of(old), records_of(new)
    yield from ((key, None) for key in earlier if key not in later)
    yield from ((key, value) for key, value in later.items() if earlier.get(key) != value)


# -------------------------------------------------------------------------------------------------- values of any size


def cut(key: bytes, value: bytes | None, before: int = 1) -> Iterator[tuple[bytes, bytes | None]]:
    """`value` as records of at most CHUNK_BYTES; `before` is the number of records that it had until now.

    Keys are msgpack, which never begins with 0xc1: that byte marks a continuation.
    """
    chunks = [] if value is None else [value[at : at + CHUNK_BYTES] for at in range(0, len(value), CHUNK_BYTES)]
    for number in range(max(len(chunks), before)):
        yield _part_key(key, number), chunks[number] if number < len(chunks) else None


def _part_key(key: bytes, number: int) -> bytes:
    return key if number == 0 else b"\xc1" + number.to_bytes(4, "big") + key


def whole_key(key: bytes) -> bytes:
    """The key of the value that the record with this key is a piece of."""
    return key[5:] if key[:1] == b"\xc1" else key


def join(root: Node, key: bytes) -> bytes | None:
    """The value that `cut` has cut."""
    value = chunk = find(root, key)
    number = 0
    while value is not None and chunk is not None and len(chunk) == CHUNK_BYTES:
        number += 1
        chunk = find(root, _part_key(key, number))
        value += chunk or b""
    return value


def value_differences(old: Node, new: Node) -> Iterator[tuple[bytes, bytes | None]]:
    """As `differences`, of whole values."""
    cut_keys = set()
    for key, value in differences(old, new):
        if key[:1] == b"\xc1" or (value is not None and len(value) == CHUNK_BYTES):
            cut_keys.add(whole_key(key))
        elif value is not None or key not in cut_keys:
            yield key, value
    yield from ((key, join(new, key)) for key in sorted(cut_keys))


# --------------------------------------------------------------------------------------------------------------- parts


def _below(root: Node, number: int) -> Node | None:
    """Node `number`, None if the tree does not reach there."""
    path = []
    while number > 0:
        number, child = divmod(number - 1, FANOUT)
        path.append(child)
    node = root
    for child in reversed(path):
        if not isinstance(node, Inner):
            return None
        node = node.children[child]
    return node


def _page(node: Node) -> bytes:
    return node.data() if isinstance(node, Leaf) else _encode(dict(sorted(records_of(node).items())))


def _part_of(number: int, node: Node) -> int:
    """The part by which node `number` travels in a walk over everything."""
    return 2 * number + (1 if number and node.size <= PAGE_BYTES else 0)


def read_part(root: Node, part: int) -> bytes | None:
    """The bytes of one part; None if there is no such part."""
    node = _below(root, part // 2) if part >= 0 else None
    if node is None:
        return None
    if node.size <= PAGE_BYTES and (part % 2 or part == 0):
        return _page(node)
    return None if part % 2 and isinstance(node, Inner) else node.data()


def following(root: Node, part: int) -> int:
    """The part after `part` in the walk over everything, -1 after the last. Empty nodes are passed over."""
    number = part // 2
    node = _below(root, number)
    if isinstance(node, Inner) and not part % 2 and not (part == 0 and node.size <= PAGE_BYTES):
        return next(_part_of(FANOUT * number + 1 + i, child) for i, child in enumerate(node.children) if child.count)
    while number > 0:
        number, child = divmod(number - 1, FANOUT)
        above = _below(root, number)
        if not isinstance(above, Inner):
            return -1
        for later in range(child + 1, FANOUT):
            if above.children[later].count:
                return _part_of(FANOUT * number + 1 + later, above.children[later])
    return -1


def walk(root: Node, since: Node | None = None) -> Iterator[tuple[int, bytes]]:
    """All parts in the order of `following`, or only those that differ from the tree `since`.

    Which of its two parts stands for a node depends on its size alone, and the walk is what an assembly that begins
    with nothing asks for: parts of older walks may lie about without being taken for new ones.
    """
    yield from _walk(root, since, 0)


def _walk(node: Node, since: Node | None, number: int) -> Iterator[tuple[int, bytes]]:
    if since is not None and since.digest == node.digest:
        return
    if not isinstance(node, Inner) or node.size <= PAGE_BYTES:
        yield _part_of(number, node), _page(node)
        return
    yield 2 * number, node.data()
    # Where the older tree had a page, the children's parts are new, whatever was in the page.
    deeper = since if isinstance(since, Inner) and since.size > PAGE_BYTES else None
    for i, child in enumerate(node.children):
        if child.count:
            yield from _walk(child, deeper.children[i] if deeper else None, FANOUT * number + 1 + i)


# ------------------------------------------------------------------------------------------------------------ assembly


class _Hole:
    """A node that is known by its digest alone; of the root nothing else is known (-1). `local`: what stands at its
    place in the replica's own tree. `part`: in which form it was asked for, -1 if it was not yet."""

    __slots__ = ("count", "size", "digest", "part", "local")

    def __init__(self, count: int, size: int, digest: bytes, local: Node | None) -> None:
        self.count = count
        self.size = size
        self.digest = digest
        self.part = -1
        self.local = local


class Assembly:
    """A tree in the making, from parts that may be lies, starting from a digest that is proved.

    Invariants:
      a part counts only if it has the digest that its parent, or the proof, gave it      (HAZARDS P41)
      a subtree that the own tree has already is taken from there; its parts are never asked for
      holes and unfinished nodes are at most those of a tree of the size that the root describes

    Repeating a part, or giving one that is not asked for, changes nothing (HAZARDS P45).
    """

    def __init__(self, digest: bytes, local: Node, known: Mapping[bytes, Node] | None = None) -> None:
        """`known`: complete subtrees by digest that an assembly given up before has left."""
        self.digest = digest
        self.root: Node | None = None
        self.finished: dict[bytes, Node] = {}
        """Complete subtrees that were fetched."""
        self._known = known or {}
        self._holes: dict[int, _Hole] = {}
        self._open: dict[int, list[Node | None]] = {}
        self._alike = self._different = 0
        """Nodes within a page that were compared with what stands here: equal to it, or not."""
        if digest == local.digest:
            self.root = local
        elif digest in self._known:
            self.root = self._known[digest]
        else:
            self._holes[0] = _Hole(-1, -1, digest, local)

    def wanted(self) -> tuple[int, ...]:
        """Up to WANTED_MAX parts that are asked for, the oldest first."""
        for number, hole in islice(self._holes.items(), WANTED_MAX):
            if hole.part < 0:
                hole.part = 2 * number + self._by_page(hole)
        return tuple(hole.part for hole in islice(self._holes.values(), WANTED_MAX))

    def add(self, part: int, data: bytes) -> bool:
        """Take one part. False if it is not what its digest says."""
        number = part // 2
        hole = self._holes.get(number)
        if hole is None:
            return True
        if len(data) > PART_BYTES_MAX or not data:
            return False
        if data[0] == _ARRAY_OF_12:
            return self._add_children(number, hole, data)
        return self._add_records(number, hole, data)

    def _add_children(self, number: int, hole: _Hole, data: bytes) -> bool:
        if blake2b(data, digest_size=DIGEST_BYTES).digest() != hole.digest or _depth(number) == DEPTH_MAX:
            return False
        try:
            flat = _decode_children(data)
        except msgspec.MsgspecError:
            return False
        del self._holes[number]
        local = hole.local.children if isinstance(hole.local, Inner) else (None,) * FANOUT
        children = [flat[0:3], flat[3:6], flat[6:9], flat[9:12]]
        found = [self._at_hand(child[2], local[i]) for i, child in enumerate(children)]
        self._open[number] = list(found)
        for i, (count, size, digest) in enumerate(children):
            if found[i] is None:
                self._holes[FANOUT * number + 1 + i] = _Hole(count, size, digest, local[i])
            if 0 <= hole.size <= PAGE_BYTES:
                self._different += found[i] is None
                self._alike += found[i] is not None
        self._close(number)
        return True

    def _by_page(self, hole: _Hole) -> bool:
        """Whether to fetch a subtree whole: where there is little of it, nothing like it here, or where nearly all that
        was compared so far was different, so that going down by digests would cost more than it saves."""
        if not 0 <= hole.size <= PAGE_BYTES:
            return False
        little = hole.size <= 2 * LEAF_BYTES or not isinstance(hole.local, Inner)
        return little or self._different > 64 + 8 * self._alike

    def _add_records(self, number: int, hole: _Hole, data: bytes) -> bool:
        try:
            records = _decode_records(data)
        except msgspec.MsgspecError:
            return False
        if hole.count >= 0 and len(records) != hole.count:
            return False
        node = _build(_placed(records), _depth(number))
        if node.digest != hole.digest:
            return False
        del self._holes[number]
        self._place(number, node)
        return True

    def _at_hand(self, digest: bytes, local: Node | None) -> Node | None:
        if digest == EMPTY.digest:
            return EMPTY
        if local is not None and local.digest == digest:
            return local
        return self._known.get(digest)

    def _place(self, number: int, node: Node) -> None:
        self.finished[node.digest] = node
        if number == 0:
            self.root = node
            return
        above, child = divmod(number - 1, FANOUT)
        self._open[above][child] = node
        self._close(above)

    def _close(self, number: int) -> None:
        children = self._open[number]
        a, b, c, d = children
        if a is not None and b is not None and c is not None and d is not None:
            del self._open[number]
            self._place(number, Inner((a, b, c, d)))


def _depth(number: int) -> int:
    depth = 0
    while number > 0:
        number = (number - 1) // FANOUT
        depth += 1
    return depth
