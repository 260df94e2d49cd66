"""A tier on the page: its state, its queue and its replicas."""

from __future__ import annotations

from glm_serving.gateway.config import TierConfig
from glm_serving.gateway.page.markup import Column, Content, Markup, element, joined, table
from glm_serving.gateway.state import LimitsReport, ReplicaReport, TierReport

_REPLICAS = (Column("replica"), Column("state"), Column("address"), Column("in flight", True))


def tier_section(
    name: str, tier: TierReport, config: TierConfig | None, limits: LimitsReport
) -> Markup:
    """One tier with its replicas."""
    model = f" {config.model}" if config is not None else ""
    state = element("span", tier.state.value, class_=tier.state.value)
    heading = element("h2", name, element("code", model), " ", state)
    rows = [_replica(replica, one) for replica, one in sorted(tier.replicas.items())]
    inner = joined(
        [heading, _work(tier), _queue(tier, limits), table(_REPLICAS, rows, "No replica.")]
    )
    return element("section", inner, id=f"tier-{name}")


def _work(tier: TierReport) -> Markup:
    return element(
        "p",
        f"{tier.in_flight} in flight. {tier.arrivals:,} arrived so far with "
        f"{tier.arrived_tokens:,} tokens, {tier.arrived_image_tokens:,} of them images; "
        f"{tier.completion_tokens:,} tokens answered.",
    )


def _queue(tier: TierReport, limits: LimitsReport) -> Markup | None:
    """What waits, or nothing."""
    if not tier.held:
        return None
    work = tier.held_work
    estimate = work.estimate_seconds
    still = "" if estimate is None else f"; a replica is expected in {estimate:.0f} s"
    return element(
        "p",
        f"{tier.held} of at most {limits.max_held_requests} wait, the oldest for "
        f"{tier.oldest_held_seconds:.1f} s, "
        f"with {work.tokens:,} tokens and {work.images} images{still}.",
        class_="held",
    )


def _replica(name: str, replica: ReplicaReport) -> tuple[Content, ...]:
    state = "Resting" if replica.resting else "Routable" if replica.routable else "Leaving"
    return (
        element("code", name),
        element("span", state, class_=state),
        element("code", replica.address),
        replica.in_flight,
    )
