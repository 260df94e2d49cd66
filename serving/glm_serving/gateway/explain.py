"""`glm-gateway explain`: what the gateway would make of one request, and why."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from glm_serving.gateway import priors, routes
from glm_serving.gateway.config import TIERS, Media
from glm_serving.gateway.decide import Hints, State, asked_at_opening, asked_now, decide
from glm_serving.gateway.errors import ConfigError, Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.filesource import FileSource
from glm_serving.gateway.http import RequestHead
from glm_serving.gateway.policy import Policy, TierPolicy, policy_of
from glm_serving.gateway.rules import Asked, Match, Rule, matches

EXCERPT_CHARS = 60
"""How much of a text is shown."""
_HIDDEN = frozenset({"model", "opening", "media"})
"""Facts that are shown in a line of their own, and hashes that say nothing to a person."""


def main(argv: Sequence[str]) -> int:
    """Print facts, candidates and decision; the exit code is 1 for a refusal, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    try:
        config = FileSource(arguments.config).read()
        body = _read(arguments.request)
    except ConfigError as error:
        sys.stderr.write(f"glm-gateway explain: {error}\n")
        return 2
    policy = policy_of(config)
    serving = frozenset(arguments.serving or (tier.name for tier in policy.tiers))
    try:
        facts = _facts(arguments.path, body, config.media)
        for line in explained(facts, _hints(arguments), State(serving), policy):
            sys.stdout.write(line + "\n")
    except Refusal as refusal:
        reason = refusal.reason
        sys.stdout.write(f"{'refused':<11}{reason.status} {reason.name}: {refusal}\n")
        return 1
    return 0


def explained(facts: Facts, hints: Hints, state: State, policy: Policy) -> Iterator[str]:
    """The explanation, line by line.

    Raises:
        Refusal: no tier serves the request; the lines before say what was found.
    """
    yield from _titled("facts", _facts_lines(facts))
    yield from _titled("tiers", (_tier_line(tier, facts, hints) for tier in policy.tiers))
    decision = decide(facts, hints, state, policy)
    if policy.rules:
        lines = (_rule_line(rule, facts, hints, decision.task) for rule in policy.rules)
        yield from _titled("rules", lines)
    yield from _titled("decision", _decision_lines(facts, hints, state, policy))


def _titled(title: str, lines: Iterator[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"{'' if index else title:<11}{line}"


def _facts_lines(facts: Facts) -> Iterator[str]:
    """Every fact that differs from that of an empty request."""
    yield f"model {facts.model!r}"
    empty = Facts("")
    for field in dataclasses.fields(facts):
        value = getattr(facts, field.name)
        if field.name not in _HIDDEN and value != getattr(empty, field.name):
            yield f"{field.name} {_shown(value)}"
    where = "opening of the loop" if facts.in_tool_loop else "what is judged"
    parts = [
        f"{field.name} {_shown(value)}"
        for field in dataclasses.fields(facts.opening)
        if (value := getattr(facts.opening, field.name))
    ]
    yield f"{where}: {', '.join(parts) or 'nothing'}"


def _shown(value: object) -> str:
    if isinstance(value, str):
        short = " ".join(value.split())
        return repr(short[:EXCERPT_CHARS] + ("..." if len(short) > EXCERPT_CHARS else ""))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _tier_line(tier: TierPolicy, facts: Facts, hints: Hints) -> str:
    tokens = facts.prompt_tokens
    against = [
        sentence
        for fits, sentence in (
            (hints.allowed is None or tier.name in hints.allowed, "the key may not use it"),
            (not tier.joining, "it has not served yet"),
            (tier.holds(facts.images, 0, 0, 0), f"it takes {tier.max_images} images"),
            (tier.holds(0, facts.videos, 0, 0), f"it takes {tier.max_videos} videos"),
            (
                tier.holds(0, 0, tokens, facts.max_tokens),
                f"its context has {tier.context_tokens:,} tokens",
            ),
        )
        if not fits
    ]
    return f"{tier.name:<9} {'no: ' + ', '.join(against) if against else 'can serve it'}"


def _rule_line(rule: Rule, facts: Facts, hints: Hints, task: str) -> str:
    missed = _missed(rule.match, asked_now(facts, hints, task))
    verdict = f"no: {', '.join(missed)}" if missed else "matches"
    if facts.in_tool_loop:
        began = _missed(rule.match, asked_at_opening(facts, hints, task))
        verdict += f"; at the opening: {'no: ' + ', '.join(began) if began else 'matches'}"
    return f"{rule.name} -> {rule.tier}: {verdict}"


def _missed(match: Match, asked: Asked) -> list[str]:
    """The keys of a rule that do not match, each asked by itself."""
    given = {
        field.encode_name: Match(**{field.name: getattr(match, field.name)})
        for field in msgspec.structs.fields(Match)
    }
    return [name for name, alone in given.items() if not matches(alone, asked)]


def _decision_lines(facts: Facts, hints: Hints, state: State, policy: Policy) -> Iterator[str]:
    decision = decide(facts, hints, state, policy)
    yield f"{decision.tier}, x-glm-decision {decision.header}: {decision.reason.sentence}"
    if decision.task:
        lead = priors.LEADS.get(decision.task)
        figure = "no published lead" if lead is None else f"lead {lead} points"
        yield f"task {decision.task}: {figure}, tolerance {policy.tolerance_points:g}"
    if decision.degraded:
        yield f"x-glm-degraded {decision.degraded}: that tier takes no request now"
    if decision.reject:
        yield "refused at once with 503, for no replica takes it now"
    elif decision.hold:
        yield "waits, for no replica takes it now"
    else:
        without = State(state.serving - {decision.tier})
        yield f"without {decision.tier}: {_otherwise(facts, hints, without, policy)}"


def _otherwise(facts: Facts, hints: Hints, state: State, policy: Policy) -> str:
    decision = decide(facts, hints, state, policy)
    if decision.reject:
        return "refused at once with 503"
    if decision.hold:
        return "it waits"
    named = f" with x-glm-degraded {decision.degraded}" if decision.degraded else ""
    return f"{decision.tier} serves it{named}"


def _facts(path: str, body: bytes, media: Media) -> Facts:
    read = routes.of(RequestHead(method="POST", path=path.encode())).read
    assert read is not None
    return read(body, media)


def _read(request: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if request == "-" else Path(request).read_bytes()
    except OSError as error:
        raise ConfigError(f"{request} cannot be read: {error.strerror}") from error


def _hints(arguments: argparse.Namespace) -> Hints:
    headers = {name.strip().lower(): value.strip() for name, value in arguments.header}
    return Hints(
        tier=headers.get("x-glm-tier", ""),
        task=headers.get("x-glm-task", ""),
        headers=headers,
        allowed=frozenset(arguments.key_tiers) if arguments.key_tiers else None,
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is no header: write name: value")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="glm-gateway explain", description=__doc__)
    parser.add_argument("request", help="file with the body of a request; - reads it from input")
    parser.add_argument("--config", type=Path, required=True, help="configuration file")
    parser.add_argument("--path", default="/v1/chat/completions", help="where it would be sent")
    parser.add_argument(
        "--header", type=_header, action="append", default=[], help="a header, as name: value"
    )
    parser.add_argument(
        "--serving", nargs="*", choices=TIERS, help="tiers that take requests now; all unless given"
    )
    parser.add_argument(
        "--key-tiers", nargs="+", choices=TIERS, help="tiers that the API key may use"
    )
    return parser
