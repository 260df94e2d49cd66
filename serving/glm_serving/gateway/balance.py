"""Which replica of a tier gets a request: a pure function of what each has to do and what it knows.

A replica costs the work that it has, and what the request adds to it. A replica that computed the
beginning of the conversation before, or has its images in its cache, is asked for less: so locality
is worth exactly the work it saves, and never more than the load it makes up for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from glm_serving.gateway.breaker import Random

ENCODING_WEIGHT = 0.4
"""Encoding an image token, in tokens of prompt: an encoder of under 1 B parameters sees four
patches for each token, while the language model has 9 to 12 B active. An estimate."""
OUTPUT_WEIGHT = 4
"""A token of output, in tokens of prompt: decoding is bound by memory, and shared by a batch. An
estimate."""
EXPECTED_OUTPUT_TOKENS = 512
"""Where the client asks for no less; most answers end long before `max_tokens`."""
LOAD_CAP = 2.0
"""With more than this times the mean work a replica is not chosen for what it knows."""
WARM_UP_SECONDS = 30.0
"""How long a replica that has just come gets less than its share, if there are others."""
COLD_SHARE = 0.1
"""The part of its share with which it begins."""
MAX_KNOWN = 4096
"""Conversations and media remembered of one replica; the longest unused is forgotten first."""


class Demand(msgspec.Struct, frozen=True):
    """What one request asks of a replica; `demand` makes it."""

    tokens: int
    """Of the prompt, estimated."""
    encoding: int
    """Work to encode its media, without any cache."""
    prefill: int
    """Work until the first token, without any cache: both of the above."""
    decode: int
    """Work from the first token on."""
    conversation: str = ""
    """Requests with the same one begin alike; empty when nothing is known."""
    media: tuple[int, ...] = ()
    """Key of each different image and video."""


def demand(
    text_tokens: int = 0,
    image_tokens: int = 0,
    output_tokens: int = 0,
    conversation: str = "",
    media: tuple[int, ...] = (),
) -> Demand:
    """The demand of a request; `output_tokens` are those it asks for, 0 where it does not say."""
    tokens, encoding = text_tokens + image_tokens, int(ENCODING_WEIGHT * image_tokens)
    output = min(output_tokens or EXPECTED_OUTPUT_TOKENS, EXPECTED_OUTPUT_TOKENS)
    return Demand(tokens, encoding, tokens + encoding, OUTPUT_WEIGHT * output, conversation, media)


class Load:
    """What one replica has to do, in tokens of prompt, and what it probably has in its caches."""

    __slots__ = ("_known", "picked", "warm_at", "work")

    def __init__(self, now: float) -> None:
        self.warm_at = now + WARM_UP_SECONDS
        self._known: dict[str | int, int] = {}
        """Conversation -> tokens of its longest prompt here; medium -> 0."""
        self.work = 0
        self.picked = 0
        """Serial number of its last request, so that equals take turns."""

    def saved(self, asked: Demand) -> int:
        """Work of the request that its caches spare this replica."""
        known = self._known
        if not known:
            return 0
        before = known.get(asked.conversation, 0) if asked.conversation else 0
        if before:
            return asked.prefill * min(before, asked.tokens) // asked.tokens if asked.tokens else 0
        seen = sum(medium in known for medium in asked.media) if asked.media else 0
        return asked.encoding * seen // len(asked.media) if seen else 0

    def slowness(self, now: float) -> float:
        """By how much its work counts more than that of a replica that is warm."""
        return 1.0 / max(COLD_SHARE, min(1.0, 1.0 - (self.warm_at - now) / WARM_UP_SECONDS))

    def remember(self, asked: Demand) -> None:
        """It is about to compute this request."""
        known = self._known
        if asked.conversation:
            before = known.pop(asked.conversation, 0)
            known[asked.conversation] = max(before, asked.tokens)
        for medium in asked.media:
            known.pop(medium, None)
            known[medium] = 0
        while len(known) > MAX_KNOWN:
            del known[next(iter(known))]

    def forget(self) -> None:
        """Its engine may have started anew: its caches are empty."""
        self._known.clear()


def choose(
    loads: Sequence[Load], asked: Demand, now: float, random: Random, blind: bool = False
) -> int:
    """The place of the best replica among these; there is at least one.

    While `blind` the loads may be far from the truth. Then the better of two taken at random is
    chosen: whatever looks idle and is not does not draw everything to it.
    """
    count = len(loads)
    if count == 1:
        return 0
    among: Sequence[int] = range(count)
    if blind:
        first = int(random() * count)
        among = (first, (first + 1 + int(random() * (count - 1))) % count)
    added = asked.prefill + asked.decode
    cap = LOAD_CAP * (sum([load.work for load in loads]) / count + added)
    best, least, turn = among[0], math.inf, 0
    for place in among:
        load = loads[place]
        cost: float = load.work + added
        if load.work <= cap:
            cost -= load.saved(asked)
        if now < load.warm_at:
            cost *= load.slowness(now)
        if cost < least or (cost == least and load.picked < turn):
            best, least, turn = place, cost, load.picked
    return best
