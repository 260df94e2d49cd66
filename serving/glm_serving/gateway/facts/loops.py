"""Where a conversation stands in a loop of tool calls."""

from __future__ import annotations

from collections.abc import Sequence

from glm_serving.gateway.facts.conversation import ASSISTANT, TOOL, Turn


def open_loop_start(turns: Sequence[Turn]) -> int | None:
    """Index of the first tool call of the loop that is open, or None.

    A loop opens with an assistant turn that calls tools. It closes with an assistant turn that
    calls none once every call id has its result. Turns of the user in between (such as a
    screenshot that follows a result) do not close it: the assistant has not answered yet.
    """
    start: int | None = None
    pending: set[str] = set()
    for index, turn in enumerate(turns):
        if turn.calls:
            start = index if start is None else start
            pending.update(call.id for call in turn.calls if call.id)
        elif turn.role == TOOL:
            pending.discard(turn.answers)
        elif turn.role == ASSISTANT and not pending:
            start = None
    return start


def repeated_calls(turns: Sequence[Turn]) -> int:
    """Calls that an earlier turn made with the same arguments: a sign of an agent that is stuck.

    Equal calls in one turn are parallel and count once.
    """
    seen: set[tuple[str, str]] = set()
    repeated = 0
    for turn in turns:
        made = {(call.name, call.arguments) for call in turn.calls}
        repeated += len(made & seen)
        seen |= made
    return repeated
