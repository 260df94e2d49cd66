"""Work that goes on for one value and begins anew when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Renewing(Generic[T]):
    """Runs `work(value)` for the present value, for ever."""

    def __init__(self, value: T, work: Callable[[T], Coroutine[Any, Any, None]]) -> None:
        self.value = value
        self._work = work
        self._changed = asyncio.Event()

    def change(self, value: T) -> bool:
        """Go on with another value; whether it is another one."""
        if value == self.value:
            return False
        self.value = value
        self._changed.set()
        return True

    async def run(self) -> None:
        """Work, and begin anew at each change. What the work raises ends it."""
        while True:
            self._changed.clear()
            working = asyncio.ensure_future(self._work(self.value))
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({working, changed}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
                await changed
            finally:
                working.cancel()
                changed.cancel()
