"""What the oldest supported Python lacks, without a package at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import override as override
else:
    _F = TypeVar("_F", bound=Callable[..., object])

    def override(method: _F) -> _F:
        """Mark a method that overrides one of its base class (`typing.override` from 3.12 on)."""
        return method
