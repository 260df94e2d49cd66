"""Which URLs of media pass to an engine: those that every parser reads alike, of allowed hosts."""

from __future__ import annotations

import re

from glm_serving.gateway.config import Media
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import MEDIA_URL_NOT_ALLOWED

MAX_URL_CHARS = 8192
_URL = re.compile(
    r"(https?)://"
    # Labels of letters, digits and inner hyphens; the last begins with a letter, so no address
    # in any notation is one, and no dot ends it.
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"
    r"(?::[0-9]{1,5})?"
    # Printable ASCII without a backslash.
    r"(?:/[!-\[\]-~]*)?"
)


def check_url(url: str, where: str, rules: Media) -> None:
    """Let a URL of an image or video pass.

    Hosts are compared in small letters and as a whole, as vLLM does; any port is allowed.

    Raises:
        Refusal: no domain is allowed, the URL could be read in two ways, is not https, or is of
            another host.
    """
    if not rules.allowed_domains:
        raise _refused(
            f"{where} is not a data: URL: media by URL is not allowed here (media.allowedDomains "
            "is empty); send the bytes inline",
            where,
        )
    found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    if found is None:
        raise _refused(
            f"{where} is {url[:100]!r}: write a plain https://host/path, without user, address in "
            f"numbers, spaces, backslash or more than {MAX_URL_CHARS} characters",
            where,
        )
    scheme, host = found[1], found[2].lower()
    if scheme == "http" and not rules.allow_http:
        raise _refused(f"{where} is http: use https (media.allowHTTP is off)", where)
    if host not in rules.allowed_domains:
        raise _refused(
            f"{where} is on {host[:100]!r}, which is not in media.allowedDomains; send the bytes "
            "inline",
            where,
        )


def _refused(message: str, where: str) -> Refusal:
    return Refusal(MEDIA_URL_NOT_ALLOWED, message, where)
