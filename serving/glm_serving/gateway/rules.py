"""Rules of the object: who serves what, in their order, before the priors.

A rule whose tier cannot hold the request is passed over. See docs/routing.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.priors import TASKS

_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
"""Their values are no business of a configuration that everybody in the namespace reads."""


class Degradation(StrEnum):
    """What happens to a request whose tier takes none now."""

    HOLD = "Hold"
    """It waits for a replica."""
    DEGRADE = "Degrade"
    """Another tier that can hold it serves; a weaker one says so in `x-glm-degraded`."""
    REJECT = "Reject"
    """It is refused at once."""


class Presence(StrEnum):
    """Whether a request must have something for a rule to match."""

    ANY = "Any"
    REQUIRED = "Required"
    EXCLUDED = "Excluded"


class Match(msgspec.Struct, frozen=True, rename="camel"):
    """What a request must be for a rule to apply. What is not given is not asked."""

    tasks: tuple[str, ...] = ()
    """Any of these tasks, declared in `x-glm-task` or inferred."""
    min_images: Annotated[int, msgspec.Meta(ge=0)] = 0
    """In the whole conversation."""
    has_video: Presence = Presence.ANY
    """Whether there must be a video, or must be none."""
    has_tools: Presence = Presence.ANY
    """Whether functions are offered, or called in the open loop."""
    in_tool_loop: Presence = Presence.ANY
    """Whether a tool loop must be open, or must not."""
    min_context_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Estimated tokens of the conversation, images included and tools not."""
    headers: dict[str, str] = {}
    """Names in small letters -> exact values, all of them."""
    models: tuple[str, ...] = ()
    """Any of these names, of those that let the gateway choose."""


class Rule(msgspec.Struct, frozen=True):
    """One rule: what matches goes to its tier."""

    name: str
    """Shown in `x-glm-decision`."""
    tier: str
    """Which serves; a tier that cannot hold a request passes the rule over."""
    match: Match = Match()
    """What a request must be; without it every request matches."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules look at: a request, or the opening of its tool loop.

    The tuples hold every value that a property had so far, so that nothing which matched once
    in a loop stops to match in it.
    """

    model: str
    task: str
    has_tools: tuple[bool, ...]
    in_tool_loop: tuple[bool, ...]
    images: int
    has_video: tuple[bool, ...]
    prompt_tokens: int
    headers: Mapping[str, str]


def matches(match: Match, asked: Asked) -> bool:
    """Whether a rule applies."""
    return (
        asked.images >= match.min_images
        and asked.prompt_tokens >= match.min_context_tokens
        and _agrees(match.has_tools, asked.has_tools)
        and _agrees(match.in_tool_loop, asked.in_tool_loop)
        and _agrees(match.has_video, asked.has_video)
        and (not match.tasks or asked.task in match.tasks)
        and (not match.models or asked.model in match.models)
        and all(asked.headers.get(name) == value for name, value in match.headers.items())
    )


def _agrees(wanted: Presence, found: tuple[bool, ...]) -> bool:
    return wanted is Presence.ANY or (wanted is Presence.REQUIRED) in found


def check(rule: Rule, names: Mapping[str, bool]) -> None:
    """Refuse a rule that could never do what it says.

    `names`: every model name of clients -> whether it lets the gateway choose.

    Raises:
        ConfigError: it contradicts itself; the message names the rule.
    """
    where = f"rules.{rule.name}.match"
    if not _NAME.fullmatch(rule.name):
        raise ConfigError(f"rules has the name {rule.name!r}: use a-z, 0-9 and -, at most 63")
    for task in rule.match.tasks:
        if task not in TASKS:
            raise ConfigError(f"{where}.tasks has {task!r}: use {', '.join(TASKS)}")
    for header, value in rule.match.headers.items():
        if header in SECRET_HEADERS or not _HEADER.fullmatch(header):
            raise ConfigError(
                f"{where}.headers has {header!r}: use a name in small letters that holds no secret"
            )
        if not value:
            raise ConfigError(f"{where}.headers has no value for {header!r}: write one")
    for model in rule.match.models:
        if not names.get(model):
            free = ", ".join(sorted(name for name, chooses in names.items() if chooses))
            raise ConfigError(f"{where}.models has {model!r}: rules judge only {free}")
