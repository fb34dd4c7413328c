"""What a script asks before it uses a graphics card: there is none here, and it says so.

>>> import minigrad as mg
>>> mg.device("cuda" if mg.cuda.is_available() else "cpu")
device(type='cpu')
"""

from __future__ import annotations

__all__ = ["device_count", "is_available"]


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0
