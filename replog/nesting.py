"""How deep an operation is nested, by its bytes alone.

A decoder that follows the nesting gives up where the interpreter's stack is full, which differs between replicas that
execute the same operation on different ways. So what is nested too deep is known beforehand, the same everywhere, and
what has so many items that this cannot be told soon is treated alike.
(HAZARDS P30)
"""

from __future__ import annotations

from typing import Final

DEPTH_MAX: Final = 64
"""Lists and maps within each other."""
ITEMS_MAX: Final = 65_536
"""So many items are looked at: a megabyte of empty lists would hold all others up for more than a second."""

_MAPS, _ARRAYS, _TEXTS = range(0x80, 0x90), range(0x90, 0xA0), range(0xA0, 0xC0)
_LISTED: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Of a long list or map: bytes of its count, items for each."""
_LONG: Final = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)} | {
    head: (1 << step, 0) for step, head in enumerate((0xD9, 0xDA, 0xDB))
}
"""Of long bytes, texts and extensions: bytes of the length, and what follows it beside the content."""
_SHORT: Final = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8} | {
    0xD4 + step: 1 + (1 << step) for step in range(5)
}
"""Bytes behind the first of what is always as long."""
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in (*_MAPS, *_ARRAYS, *_LISTED))


def is_tangled(data: bytes) -> bool:
    """Whether some item lies within more than DEPTH_MAX others, or there are more than ITEMS_MAX. Cheap for whatever
    has few bytes that could begin a list or a map: its items are not counted."""
    if len(data) <= DEPTH_MAX or len(data.translate(None, _OTHERS)) <= DEPTH_MAX:
        return False
    left: list[int] = []  # of each list or map that this place lies in: the items still to come
    place = count = 0
    while place < len(data):
        while left and not left[-1]:
            left.pop()
        if left:
            left[-1] -= 1
        count += 1
        if count > ITEMS_MAX:
            return True
        size, items = _item(data, place)
        place += size
        if items:
            left.append(items)
            if len(left) > DEPTH_MAX:
                return True
    return False


def _item(data: bytes, place: int) -> tuple[int, int]:
    """How many bytes an item takes, without the items in it; and how many these are."""
    head = data[place]
    if head in _MAPS or head in _ARRAYS:
        return 1, (head & 15) * (2 if head in _MAPS else 1)
    if head in _TEXTS:
        return 1 + (head & 31), 0
    if head in _LISTED:
        width, each = _LISTED[head]
        return 1 + width, each * _number(data, place + 1, width)
    if head in _LONG:
        width, more = _LONG[head]
        return 1 + width + more + _number(data, place + 1, width), 0
    return 1 + _SHORT.get(head, 0), 0


def _number(data: bytes, place: int, width: int) -> int:
    return int.from_bytes(data[place : place + width], "big")
