"""The whole document: who this gateway is, its tiers, what it does now, what it decided last."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING

from glm_serving.gateway.config import Config
from glm_serving.gateway.page.markup import Content, Markup, element, joined
from glm_serving.gateway.page.requests import recent_table, running_table
from glm_serving.gateway.page.tiers import tier_section
from glm_serving.gateway.state import Report

if TYPE_CHECKING:
    from glm_serving.gateway.gateway import Gateway


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _source(text: str) -> str:
    """How a Content-Security-Policy names an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE, _SCRIPT = _asset("style.css"), _asset("script.js")
HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": (
        f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ).encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
"""The browser may run what is in the document, ask this port again, and nothing else."""


def document(gateway: Gateway) -> bytes:
    """The page as of now."""
    report, config = gateway.report(), gateway.config
    owner = " / ".join(part for part in (config.namespace, config.deployment) if part)
    main = joined(
        [
            *_tiers(report, config),
            element("h2", "Requests that wait or run"),
            running_table(gateway.exchanges, time.monotonic()),
            element("h2", "Latest decisions"),
            recent_table(gateway.accounts.recent),
        ]
    )
    name = owner or "glm-gateway"
    return _whole(name, joined([_header(name, report), _LOST, element("main", main)]))


def _tiers(report: Report, config: Config) -> Iterator[Markup]:
    for name, tier in report.tiers.items():
        yield tier_section(name, tier, config.tiers.get(name), report.limits)


_LOST = element("p", id="lost", role="alert")


def _header(name: str, report: Report) -> Markup:
    state: Content = element("strong", " Stopping.", class_="error") if report.draining else None
    mebibytes = report.body_bytes / 2**20
    facts = (
        f"Pod {report.pod}, generation {report.generation}, up {_duration(report.uptime_seconds)}, "
        f"{report.connections} client connections, {mebibytes:.1f} of "
        f"{report.limits.max_in_flight_bytes / 2**20:.0f} MiB of request bodies in memory."
    )
    return element("header", element("h1", name), element("p", facts, state))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _whole(title: str, body: Markup) -> bytes:
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<noscript><meta http-equiv="refresh" content="2"></noscript>'
        f"{element('title', title, ' gateway').html}<style>{_STYLE}</style></head>"
    )
    return f"{head}<body>{body.html}<script>{_SCRIPT}</script></body></html>\n".encode()
