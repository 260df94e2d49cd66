"""The part of the object that says how the gateway chooses a tier."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glm_operator.api import gateway_rules
from glm_operator.api.enums import Degradation, Presence, RuleTier, Task
from glm_operator.api.fields import ATOMIC, SET, ClientName, EachOnce, HeaderValue, RuleName
from glm_operator.api.model import Model, Rule


class RuleMatch(Model):
    """What a request must be for a rule to match. What is not given is not asked."""

    rules: ClassVar[tuple[Rule, ...]] = gateway_rules.MATCH

    tasks: Annotated[tuple[Task, ...], EachOnce] = Field(
        default=(), max_length=7, json_schema_extra=SET
    )
    """Any of these tasks, declared by the client or inferred. Live."""
    min_images: int = Field(default=0, ge=0, le=1024)
    """Least number of images in the whole conversation. Live."""
    has_video: Presence = Presence.ANY
    """Whether there must be a video, or must be none. Live."""
    has_tools: Presence = Presence.ANY
    """Whether functions must be offered or called, or must not. Live."""
    in_tool_loop: Presence = Presence.ANY
    """Whether a tool loop must be open, or must not. Live."""
    min_context_tokens: int = Field(default=0, ge=0, le=1_048_576)
    """Least estimated number of tokens of the conversation, images included and tools not. Live."""
    headers: dict[str, HeaderValue] = Field(default={}, max_length=8)
    """Headers that the request must have, names in small letters, values exact. Live."""
    models: Annotated[tuple[ClientName, ...], EachOnce] = Field(
        default=(), max_length=16, json_schema_extra=SET
    )
    """Any of these model names: routing.autoModel, or an alias for auto. Live."""


class RoutingRule(Model):
    """A rule that chooses the tier of what it matches."""

    name: RuleName
    """Name of the rule; shown in the header x-glm-decision. Live."""
    match: RuleMatch = RuleMatch()
    """What a request must be; without it every request matches. Live."""
    tier: RuleTier
    """The tier that serves; a tier that cannot hold a request passes the rule over. Live."""


class Routing(Model):
    """How the gateway chooses a tier."""

    rules: ClassVar[tuple[Rule, ...]] = gateway_rules.ROUTING

    auto_model: ClientName = "glm"
    """Model name with which a client lets the gateway choose. Live."""
    quality_tolerance_points: int = Field(default=5, ge=0, le=100)
    """Flash serves a task where the flagship's published lead is smaller than this, in
    percentage points. Live."""
    tier_rules: tuple[RoutingRule, ...] = Field(
        default=(), alias="rules", max_length=32, json_schema_extra=ATOMIC
    )
    """Rules that choose a tier, tried in this order before the published scores. Live."""
    degradation: Degradation = Degradation.HOLD
    """What happens while the chosen tier takes no request: Hold waits, Degrade lets another tier
    serve and says so in the header x-glm-degraded, Reject answers 503. Live."""
