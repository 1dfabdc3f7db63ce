"""Types of arguments for the commands `python -m compare.NAME`, whose refusals name value and rule."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Final

WORKERS_MAX: Final = 1_024


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number within these."""

    def read(text: str) -> int:
        rule = f"{least} or more" if most is None else f"within {least} .. {most}"
        if not (text.isascii() and text.isdecimal() and len(text) < 10) or not least <= int(text) <= (
            most or int(text)
        ):
            raise argparse.ArgumentTypeError(f"{text!r:.40}: must be a whole number, {rule}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """A time that ends."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r:.40}: must be a number of seconds above 0")
    return value


WORKERS: Final = whole(1, WORKERS_MAX)
