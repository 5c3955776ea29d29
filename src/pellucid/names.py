"""Names that do not exist, and those that were perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnknownName(KeyError):
    """A label, layer or model that does not exist; the message offers the nearest."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """The known words nearest to one that is not, for an error message: "near it: a, b".

    >>> nearest("castel", ["castle", "koala"])
    'near it: castle'
    """
    names = list(known)
    lower = {name.lower(): name for name in reversed(names)}
    close = [lower[n] for n in difflib.get_close_matches(word.lower(), lower, count, 0.5)]
    close += [name for name in names if word.lower() in name.lower() and name not in close]
    if close:
        return f"near it: {', '.join(close[:count])}"
    return f"there are {', '.join(names[:count])}{', ...' if len(names) > count else ''}" if names else "there are none"
