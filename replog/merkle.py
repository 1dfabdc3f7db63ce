"""The replicated state as records (bytes to bytes) in a Merkle tree that is never changed, only replaced.

Here: the tree, its parts as they travel, and the assembly of a tree from parts that nobody is trusted for. Not here:
what a record means (`replog.runtime`, `replog.sessions`), when a checkpoint is taken (`replog.executor`).

The shape is a function of the content alone: a record's place is its key's hash, four bits a level; a node is a leaf as
long as its records are few enough bytes. So the digest does not depend on the history, a change of k records makes
O(k log n) new nodes, and an older tree stays whole beside a newer one: a checkpoint is a reference to a root, which a
worker thread may read. [CL02 partition tree]

Parts. Node p's children are 16p + 1 .. 16p + 16, the root is node 0. Part p is all records below node p if it is a leaf
or at most a page; else the size and digest of each child. Its digest is the hash of the bytes that node p itself would
be, so whoever knows it can check either.

Hints. Who lacks a part often has an older version of it. A hint says in 33 bytes what that version has, a byte for each
child or for each row and column of records; the answer to it is the delta, the children or records that may differ.
Two versions agree in a byte by chance now and then: the delta then does not give the digest, and one with another
salt, and then the whole, is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Annotated, Final, TypeVar
from zlib import crc32

import msgspec

from replog.codec import DIGEST_BYTES

BITS: Final = 4
FANOUT: Final = 1 << BITS
DEPTH_MAX: Final = 15
"""Part numbers stay below 2^61. Below it a leaf is a leaf whatever its size: nobody finds keys whose hashes agree in 60
bits often enough to matter."""
LEAF_BYTES: Final = 1024
"""Small leaves: a checkpoint encodes and hashes the leaf of each changed record anew."""
PAGE_BYTES: Final = 16 * 1024
"""A subtree of at most this size travels as one part."""
CHUNK_BYTES: Final = 64 * 1024
"""A longer value is cut into several records, so that a part stays below PART_BYTES_MAX."""
KEY_BYTES_MAX: Final = 64 * 1024
PART_BYTES_MAX: Final = 1024 * 1024
"""No part of a correct replica is longer."""
RECORD_OVERHEAD: Final = 8
WANTED_MAX: Final = 64
SALTS: Final = 2
"""Hints for one part before the whole is asked for."""
HINT_BYTES_MAX: Final = 1 + 2 * FANOUT
HINTED_BYTES_MIN: Final = 256
"""What is smaller travels whole: the hint and the delta would hardly be less."""

_encode = msgspec.msgpack.Encoder().encode
_Sizes = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=FANOUT)]
_Mask = Annotated[int, msgspec.Meta(ge=0, lt=1 << FANOUT)]
_decode_records = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode
_decode_children = msgspec.msgpack.Decoder(tuple[_Sizes, bytes]).decode
_decode_records_delta = msgspec.msgpack.Decoder(tuple[_Mask, _Mask, dict[bytes, bytes]]).decode
_decode_children_delta = msgspec.msgpack.Decoder(tuple[_Mask, _Sizes, bytes]).decode
_ARRAY_OF_2: Final = 0x92
_ARRAY_OF_3: Final = 0x93
"""First bytes of children and of deltas; records are a map."""

Placed = tuple[int, bytes, bytes]
"""A record with its place: the first 64 bits of a hash of its key."""
Change = tuple[int, bytes, bytes | None]
"""The same, None for a removal."""
R = TypeVar("R", Placed, Change)


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

    def __init__(self, children: list[Node]) -> None:
        """`children`: FANOUT of them, not to be changed any more."""
        self.children = children
        self.count = sum([child.count for child in children])
        self.size = sum([child.size for child in children])
        self.digest = blake2b(self.data(), digest_size=DIGEST_BYTES).digest()

    def data(self) -> bytes:
        return _encode(([child.size for child in self.children], b"".join([child.digest for child in self.children])))


class Page(Inner):
    """A subtree as the one part that it travels as, and nothing below it yet: most of a saved state is not changed for
    a long time. Its owner vouches that `raw` are the records of the node with this digest."""

    __slots__ = ("raw", "_depth")

    def __init__(self, raw: bytes, size: int, digest: bytes, depth: int) -> None:
        self.raw = raw
        self.size = size
        self.digest = digest
        self.count = len(_decode_records(raw))
        self._depth = depth

    def __getattr__(self, name: str) -> list[Node]:
        """The children, when they are first asked for."""
        if name != "children":
            raise AttributeError(name)
        node = _build(_placed(_decode_records(self.raw)), self._depth)
        if node.digest != self.digest or not isinstance(node, Inner):
            raise ValueError("a page of the state is not what its digest says")
        self.children = node.children
        return node.children


EMPTY: Final = Leaf({}, 0)

# ------------------------------------------------------------------------------------------------ building and reading


def build(records: Mapping[bytes, bytes]) -> Node:
    """The tree of these records."""
    return _build(_placed(records), 0)


def _placed(records: Mapping[bytes, bytes]) -> list[Placed]:
    """In order of place. Keys are distinct, so sorting never comes to compare values."""
    number = int.from_bytes
    return sorted([(number(blake2b(key, digest_size=8).digest(), "big"), key, records[key]) for key in records])


def _build(records: list[Placed], depth: int) -> Node:
    if len(records) * RECORD_OVERHEAD <= LEAF_BYTES or depth == DEPTH_MAX:
        leaf = _leaf({key: value for _, key, value in records}, depth)
        if leaf is not None:
            return leaf
    children: list[Node] = [EMPTY] * FANOUT
    for child, share in _shares(records, depth):
        children[child] = _build(share, depth + 1)
    return Inner(children)


def _leaf(records: dict[bytes, bytes], depth: int) -> Node | None:
    """The leaf of `records`, None if they are too much for one."""
    if not records:
        return EMPTY
    size = _size_of(records)
    return Leaf(records, size) if size <= LEAF_BYTES or len(records) == 1 or depth == DEPTH_MAX else None


def _size_of(records: dict[bytes, bytes]) -> int:
    return sum(map(len, records)) + sum(map(len, records.values())) + len(records) * RECORD_OVERHEAD


def _shares(records: list[R], depth: int) -> Iterator[tuple[int, list[R]]]:
    """The children that have a share of `records`, with it. `records`: in order of place, all of one node."""
    shift = _shift(depth)
    low = 0
    while low < len(records):
        prefix = records[low][0] >> shift
        high = bisect_left(records, ((prefix + 1) << shift,), low)
        yield prefix % FANOUT, records[low:high]
        low = high


def _shift(depth: int) -> int:
    """How far a place is to be shifted so that its last BITS name the child of a node at `depth`."""
    return 64 - BITS * (depth + 1)


def update(root: Node, changes: Mapping[bytes, bytes | None]) -> Node:
    """The tree after `changes` (None removes). What is not touched is shared with `root`."""
    if not changes:
        return root
    return _update(root, sorted((place_of(key), key, value) for key, value in changes.items()), 0)


def _update(node: Node, changes: list[Change], depth: int) -> Node:
    if not isinstance(node, Inner):
        return _update_leaf(node, changes, depth)
    children = node.children.copy()
    for child, share in _shares(changes, depth):
        children[child] = _update(children[child], share, depth + 1)
    after = Inner(children)
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
    if isinstance(node, (Leaf, Page)):
        into.update(_decode_records(node.raw))
    elif isinstance(node, Inner):
        for child in node.children:
            _collect(child, into)


def find(root: Node, key: bytes) -> bytes | None:
    """The record of `key`."""
    place, depth, node = place_of(key), 0, root
    while isinstance(node, Inner):
        node = node.children[(place >> _shift(depth)) % FANOUT]
        depth += 1
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


def _is_page(node: Node) -> bool:
    """Whether the node's part is its records."""
    return node.size <= PAGE_BYTES or not isinstance(node, Inner)


def _part(node: Node) -> bytes:
    if isinstance(node, Page):
        return node.raw
    if isinstance(node, Inner) and node.size <= PAGE_BYTES:
        return _page(records_of(node))
    return node.data()


def _page(records: dict[bytes, bytes]) -> bytes:
    return _encode(dict(sorted(records.items())))


def read_part(root: Node, part: int, hint: bytes = b"") -> bytes | None:
    """The bytes of one part, or its delta to what `hint` describes unless much differs; None if there is no such part.

    Costs at most a page, whatever `hint` is.
    """
    node = _below(root, part) if part >= 0 else None
    return None if node is None else _delta(node, hint) or _part(node)


def following(root: Node, part: int) -> int:
    """The part after `part` in the walk over everything, -1 after the last. Empty nodes are passed over."""
    node = _below(root, part)
    if isinstance(node, Inner) and not _is_page(node):
        return next(FANOUT * part + 1 + i for i, child in enumerate(node.children) if child.count)
    while part > 0:
        part, child = divmod(part - 1, FANOUT)
        above = _below(root, part)
        if not isinstance(above, Inner):
            return -1
        for later in range(child + 1, FANOUT):
            if above.children[later].count:
                return FANOUT * part + 1 + later
    return -1


def walk(root: Node, since: Node | None = None) -> Iterator[tuple[int, bytes]]:
    """All parts in the order of `following`, or only those that differ from the tree `since`.

    It is what an assembly that begins with nothing asks for: parts of older walks may lie about without being asked
    for.
    """
    yield from _walk(root, since, 0)


def _walk(node: Node, since: Node | None, part: int) -> Iterator[tuple[int, bytes]]:
    if since is not None and since.digest == node.digest:
        return
    yield part, _part(node)
    if not isinstance(node, Inner) or _is_page(node):
        return
    # Where the older tree had a page, the children's parts are new, whatever was in the page.
    deeper = since if isinstance(since, Inner) and not _is_page(since) else None
    for i, child in enumerate(node.children):
        if child.count:
            yield from _walk(child, deeper.children[i] if deeper else None, FANOUT * part + 1 + i)


def count_parts(node: Node) -> int:
    """How many parts `walk` gives for the tree below `node`."""
    if not isinstance(node, Inner) or _is_page(node):
        return 1
    return 1 + sum(count_parts(child) for child in node.children if child.count)


# --------------------------------------------------------------------------------------------------------------- paths


def path(root: Node, key: bytes) -> list[bytes]:
    """The parts from the root to the page of `key`: with the digest of the root, a proof of what its record is."""
    place, depth, node = place_of(key), 0, root
    parts = [_part(node)]
    while isinstance(node, Inner) and not _is_page(node):
        node = node.children[(place >> _shift(depth)) % FANOUT]
        depth += 1
        parts.append(_part(node))
    return parts


def proved(digest: bytes, key: bytes, parts: Sequence[bytes]) -> bytes | None:
    """The record of `key` in the tree with this digest, None if it has none, as these parts prove it.

    Raises ValueError if they do not (HAZARDS P41). The record is of one piece: see `cut`.
    """
    if not 1 <= len(parts) <= DEPTH_MAX + 1:
        raise ValueError(f"a path of {len(parts)} parts; it has 1 to {DEPTH_MAX + 1}")
    place = place_of(key)
    for depth, part in enumerate(parts[:-1]):
        digest = _child_digest(digest, part, (place >> _shift(depth)) % FANOUT)
    return _page_records(digest, parts[-1], len(parts) - 1).get(key)


def _child_digest(digest: bytes, part: bytes, child: int) -> bytes:
    if blake2b(part, digest_size=DIGEST_BYTES).digest() != digest:
        raise ValueError("a part of a path does not have its digest")
    try:
        sizes, digests = _decode_children(part)
    except msgspec.MsgspecError:
        raise ValueError("a part of a path has no children") from None
    if len(sizes) != FANOUT or len(digests) != FANOUT * DIGEST_BYTES:
        raise ValueError(f"a part of a path has other than {FANOUT} children")
    return digests[DIGEST_BYTES * child : DIGEST_BYTES * (child + 1)]


def _page_records(digest: bytes, part: bytes, depth: int) -> dict[bytes, bytes]:
    if len(part) > PART_BYTES_MAX:
        raise ValueError(f"a part of {len(part)} bytes; at most {PART_BYTES_MAX}")
    try:
        records = _decode_records(part)
    except msgspec.MsgspecError:
        raise ValueError("the last part of a path holds no records") from None
    if _build(_placed(records), depth).digest != digest:
        raise ValueError("the last part of a path does not have its digest")
    return records


# --------------------------------------------------------------------------------------------------------------- hints


def hint_of(node: Node, page: bool, salt: int) -> bytes:
    """What `node` has, for whoever has another version of it: `salt`, then a byte for each child, or of its records
    (`page`) for each row and each column. b"" if it has nothing to compare with."""
    if page:
        return bytes((salt,)) + _marks(records_of(node), salt) if 0 < node.size <= 2 * PAGE_BYTES else b""
    return bytes((salt,)) + _child_marks(node, salt) if isinstance(node, Inner) else b""


def _child_marks(node: Inner, salt: int) -> bytes:
    return bytes([child.digest[salt] for child in node.children])


def _marks(records: dict[bytes, bytes], salt: int) -> bytes:
    """A record counts in its row and in its column, so that one that differs is found where they cross."""
    marks = bytearray(2 * FANOUT)
    for key, value in records.items():
        row, column = _cell(key)
        mark = blake2b(key + value, digest_size=SALTS).digest()[salt]
        marks[row] ^= mark
        marks[FANOUT + column] ^= mark
    return bytes(marks)


def _cell(key: bytes) -> tuple[int, int]:
    """Row and column of a record. Not a part of its place: there the records of a page have much in common."""
    return divmod(crc32(key) % (FANOUT * FANOUT), FANOUT)


def _delta(node: Node, hint: bytes) -> bytes | None:
    """What differs from what `hint` says, None if that is too much, or if it says nothing about such a node."""
    if not hint or hint[0] >= SALTS:
        return None
    if _is_page(node):
        return _records_delta(records_of(node), hint) if len(hint) == 1 + 2 * FANOUT else None
    return _children_delta(node, hint) if isinstance(node, Inner) and len(hint) == 1 + FANOUT else None


def _records_delta(records: dict[bytes, bytes], hint: bytes) -> bytes | None:
    marks = _marks(records, hint[0])
    rows, columns = _differing(marks[:FANOUT], hint[1:]), _differing(marks[FANOUT:], hint[1 + FANOUT :])
    given = {key: records[key] for key in sorted(records) if _crosses(rows, columns, key)}
    # Where much differs, some of the marks that are the same are so by chance.
    return _encode((rows, columns, given)) if 2 * len(given) <= len(records) else None


def _children_delta(node: Inner, hint: bytes) -> bytes | None:
    mask = _differing(_child_marks(node, hint[0]), hint[1:])
    given = [node.children[i] for i in _numbers(mask)]
    delta = mask, [child.size for child in given], b"".join([child.digest for child in given])
    return _encode(delta) if len(given) < FANOUT else None


def _differing(marks: bytes, others: bytes) -> int:
    """As a mask; bit i stands for mark i."""
    return sum(1 << i for i, (mark, other) in enumerate(zip(marks, others, strict=False)) if mark != other)


def _numbers(mask: int) -> list[int]:
    return [i for i in range(FANOUT) if mask >> i & 1]


def _crosses(rows: int, columns: int, key: bytes) -> bool:
    row, column = _cell(key)
    return bool(rows >> row & columns >> column & 1)


def _with_delta(node: Node, page: bool, data: bytes) -> bytes | None:
    """The part that this delta makes of `node`, the version that the hint was about; None if it is nonsense."""
    if page:
        return _with_records(records_of(node), *_decode_records_delta(data))
    return _with_children(node, *_decode_children_delta(data)) if isinstance(node, Inner) else None


def _with_records(records: dict[bytes, bytes], rows: int, columns: int, given: dict[bytes, bytes]) -> bytes | None:
    if not all(_crosses(rows, columns, key) for key in given):
        return None
    kept = {key: value for key, value in records.items() if not _crosses(rows, columns, key)}
    return _page(kept | given)


def _with_children(node: Inner, mask: int, sizes: list[int], digests: bytes) -> bytes | None:
    numbers = _numbers(mask)
    if len(sizes) != len(numbers) or len(digests) != DIGEST_BYTES * len(numbers):
        return None
    described = [(child.size, child.digest) for child in node.children]
    for at, i in enumerate(numbers):
        described[i] = sizes[at], digests[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)]
    return _encode(([size for size, _ in described], b"".join([digest for _, digest in described])))


# ------------------------------------------------------------------------------------------------------ from one's disk


def trusted(digest: bytes, parts: Mapping[int, bytes]) -> Node | None:
    """The tree with this digest from parts of which one knows that they are as they were saved; None unless they are
    all there. What is above the pages is checked all the same; pages are left as they are until they are needed."""
    if digest == EMPTY.digest:
        return EMPTY
    return _trusted(0, 0, -1, digest, parts)


def _trusted(number: int, depth: int, size: int, digest: bytes, parts: Mapping[int, bytes]) -> Node | None:
    data = parts.get(number)
    if not data:
        return None
    try:
        if data[0] == _ARRAY_OF_2:
            return _trusted_children(number, depth, digest, *_decode_children(data), parts)
        if size < 0 or blake2b(data, digest_size=DIGEST_BYTES).digest() == digest:
            node = _build(_placed(_decode_records(data)), depth)
            return node if node.digest == digest else None
        return Page(data, size, digest, depth)
    except msgspec.MsgspecError:
        return None


def _trusted_children(
    number: int, depth: int, digest: bytes, sizes: list[int], digests: bytes, parts: Mapping[int, bytes]
) -> Node | None:
    if len(sizes) != FANOUT or len(digests) != FANOUT * DIGEST_BYTES or depth == DEPTH_MAX:
        return None
    children: list[Node] = []
    for i, size in enumerate(sizes):
        own = digests[DIGEST_BYTES * i : DIGEST_BYTES * (i + 1)]
        child = EMPTY if own == EMPTY.digest else _trusted(FANOUT * number + 1 + i, depth + 1, size, own, parts)
        if child is None:
            return None
        children.append(child)
    node = Inner(children)
    return node if node.digest == digest else None


# ------------------------------------------------------------------------------------------------------------ assembly


class _Hole:
    """A node that is known by its digest alone; of the root not even the size is known (-1). `local`: a version of it
    that this replica has; `salt`: of the next hint."""

    __slots__ = ("size", "digest", "local", "salt", "_hint")

    def __init__(self, size: int, digest: bytes, local: Node) -> None:
        self.size = size
        self.digest = digest
        self.local = local
        self.salt = 0
        self._hint: bytes | None = None

    @property
    def hint(self) -> bytes:
        """For the node's part; b"" where the whole is to be asked for."""
        if self._hint is None:
            helps = self.size >= HINTED_BYTES_MIN and self.salt < SALTS
            self._hint = hint_of(self.local, self.size <= PAGE_BYTES, self.salt) if helps else b""
        return self._hint

    def missed(self) -> None:
        """The answer to the hint did not lead to the digest."""
        self.salt += 1
        self._hint = None


class Assembly:
    """A tree in the making, from parts that may be lies, starting from a digest that is proved.

    Invariants:
      a part counts only if it has the digest that its parent, or the proof, gave it      (HAZARDS P41)
      a subtree that the own tree has already is taken from there; its parts are never asked for
      holes and unfinished nodes are at most those of a tree of the size that the root describes

    Repeating a part, or giving one that is not asked for, changes nothing (HAZARDS P45).
    """

    def __init__(self, digest: bytes, local: Node, known: Mapping[int, Node] | None = None) -> None:
        """`known`: what an assembly given up before has left as `finished`."""
        self.digest = digest
        self.root: Node | None = None
        self.finished: dict[int, Node] = dict(known or {})
        """Complete subtrees by the number of their node, fetched for this digest or for one given up before."""
        self._holes: dict[int, _Hole] = {}
        self._open: dict[int, list[Node | None]] = {}
        if digest == local.digest:
            self.root = local
        else:
            self._holes[0] = _Hole(-1, digest, self.finished.get(0, local))

    def wanted(self) -> tuple[int, ...]:
        """Up to WANTED_MAX parts that are asked for, the oldest first."""
        return tuple(islice(self._holes, WANTED_MAX))

    def hints(self) -> dict[int, bytes]:
        """Of parts that are wanted: what this replica has of them, where that helps."""
        return {part: hole.hint for part, hole in islice(self._holes.items(), WANTED_MAX) if hole.hint}

    def add(self, part: int, data: bytes) -> bool:
        """Take one part or delta. False if the part is not what its digest says, or if the delta is nonsense.

        A delta that does not lead to the digest may be nobody's fault: the part stays wanted, with another hint.
        """
        hole = self._holes.get(part)
        if hole is None:
            return True
        if len(data) > PART_BYTES_MAX or not data:
            return False
        try:
            if data[0] == _ARRAY_OF_3:
                return self._add_delta(part, hole, data)
            if data[0] == _ARRAY_OF_2:
                return self._add_children(part, hole, *_decode_children(data))
            return self._add_records(part, hole, _decode_records(data))
        except msgspec.MsgspecError:
            return False

    def _add_delta(self, part: int, hole: _Hole, data: bytes) -> bool:
        if len(data) > 2 * PAGE_BYTES:
            return False
        if not hole.hint:
            return True  # late: the whole was asked for meanwhile
        whole = _with_delta(hole.local, hole.size <= PAGE_BYTES, data)
        if whole is not None and not self.add(part, whole):
            hole.missed()
        return whole is not None

    def _add_children(self, part: int, hole: _Hole, sizes: list[int], digests: bytes) -> bool:
        if 0 <= hole.size <= PAGE_BYTES or _depth(part) == DEPTH_MAX or len(sizes) != FANOUT:
            return False
        if blake2b(_encode((sizes, digests)), digest_size=DIGEST_BYTES).digest() != hole.digest:
            return False
        del self._holes[part]
        local = hole.local.children if isinstance(hole.local, Inner) else [EMPTY] * FANOUT
        self._open[part] = [
            self._child(FANOUT * part + 1 + i, sizes[i], digests[DIGEST_BYTES * i : DIGEST_BYTES * (i + 1)], local[i])
            for i in range(FANOUT)
        ]
        self._close(part)
        return True

    def _child(self, number: int, size: int, digest: bytes, local: Node) -> Node | None:
        """What is at hand for this child, or a hole."""
        fetched = self.finished.get(number, local)
        for node in (EMPTY, local, fetched):
            if node.digest == digest:
                return node
        self._holes[number] = _Hole(size, digest, fetched)
        return None

    def _add_records(self, part: int, hole: _Hole, records: dict[bytes, bytes]) -> bool:
        if hole.size >= 0 and _size_of(records) != hole.size:
            return False
        node = _build(_placed(records), _depth(part))
        if node.digest != hole.digest:
            return False
        del self._holes[part]
        self._place(part, node)
        return True

    def _place(self, number: int, node: Node) -> None:
        self.finished[number] = node
        if number == 0:
            self.root = node
            return
        above, child = divmod(number - 1, FANOUT)
        self._open[above][child] = node
        self._close(above)

    def _close(self, number: int) -> None:
        """If node `number` has all its children now, it is finished."""
        children = [child for child in self._open[number] if child is not None]
        if len(children) == FANOUT:
            del self._open[number]
            for child in range(FANOUT):
                self.finished.pop(FANOUT * number + 1 + child, None)
            self._place(number, Inner(children))


def _depth(number: int) -> int:
    depth = 0
    while number > 0:
        number = (number - 1) // FANOUT
        depth += 1
    return depth
