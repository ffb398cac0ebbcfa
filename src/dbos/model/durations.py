"""Lengths of time in words."""

from __future__ import annotations

_UNITS = (("days", 86400), ("h", 3600), ("min", 60))


def in_words(milliseconds: float) -> str:
    """A length of time as people say it, to about two digits: "1.4 s", "25 s", "3 min", "40 h", "12 days"."""
    seconds = max(0.0, milliseconds / 1000)
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
