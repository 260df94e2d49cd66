"""The cluster's PriorityClasses in memory, fed by a watch. All in the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from glm_operator.kube.convert import PriorityClass, priority_class_of
from glm_operator.kube.resources import PRIORITY_CLASS
from glm_operator.kube.watch import Change, Gone, Heard, Put, Snapshot, Source, Watch
from glm_operator.plan.observed import PriorityClasses


class Priorities:
    """Which PriorityClasses there are.

    Args:
        changed: told after every change; what had no room may come first now.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._classes: dict[str, PriorityClass] = {}
        self.synced = asyncio.Event()
        """Set once the list has been seen; before that the order of objects is not known."""

    def current(self) -> PriorityClasses:
        """The classes as the planner reads them."""
        defaults = (one.value for one in self._classes.values() if one.is_default)
        return PriorityClasses(
            {name: one.value for name, one in self._classes.items()},
            max(defaults, default=0),
            complete=self.synced.is_set(),
        )

    def change(self, change: Change[PriorityClass]) -> None:
        """Take in one change of the watch."""
        before = dict(self._classes)
        match change:
            case Snapshot(items):
                self._classes = {name: item for (_, name), item in items.items()}
                self.synced.set()
            case Put((_, name), item):
                self._classes[name] = item
            case Gone((_, name)):
                self._classes.pop(name, None)
            case Heard():
                pass
        if self._classes != before:
            self._changed()


def watch(
    source: Source, priorities: Priorities, post: Callable[[Callable[[], None]], None]
) -> Watch[PriorityClass]:
    """The watch that feeds them; see `inventory.watches`."""

    def deliver(change: Change[PriorityClass]) -> None:
        post(lambda: priorities.change(change))

    return Watch(source, PRIORITY_CLASS, priority_class_of, deliver)
