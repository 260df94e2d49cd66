"""Who may come in: the key of a request before its body is read, and its limits after that."""

from __future__ import annotations

from glm_serving.gateway.config import Auth
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.http import RequestHead
from glm_serving.gateway.keys import ANYONE, Key, KeyRing
from glm_serving.gateway.quotas import Charge, Quota
from glm_serving.gateway.reasons import INVALID_API_KEY, KEYS_NOT_READ

_SCHEME = b"bearer "
_ASK = {b"www-authenticate": b"Bearer"}


class Guard:
    """Knows the keys of the present configuration.

    While they are asked for and were never read, nobody comes in.
    """

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._ring: KeyRing | None = None
        self._quotas: dict[str, Quota] = {}
        self.gateways = 1
        """The ready gateways that enforce the limits of a key together, this one included."""
        self.trouble = ""
        """Why the keys could not be read; empty where they were."""

    def configure(self, auth: Auth) -> None:
        """Take over where the keys are; those that were read last stay until others are read."""
        self._auth = auth
        if not auth.required:
            self._ring = None

    def set_keys(self, ring: KeyRing | None, trouble: str = "") -> None:
        """Take over the keys that were read; None: what held them is gone."""
        self._ring, self.trouble = ring, trouble
        names = ring.names() if ring is not None else frozenset()
        for name in self._quotas.keys() - names:
            del self._quotas[name]

    @property
    def known(self) -> int:
        """How many keys there are."""
        return 0 if self._ring is None else len(self._ring)

    @property
    def locked(self) -> str:
        """Why nobody is let in: keys are asked for and were not read. Empty: clients are."""
        if self._ring is not None or not self._auth.required:
            return ""
        return f"the API keys are not read: {self.trouble or 'not yet'}"

    @property
    def has_several_keys(self) -> bool:
        """Whether there is more than one key, so that none may take what the others need."""
        return self._ring is not None and len(self._ring) > 1

    def identify(self, head: RequestHead) -> Key:
        """The key of a request.

        Raises:
            Refusal: it has none that is known, or the keys are not read.
        """
        if not self._auth.required:
            return ANYONE
        if self._ring is None:
            raise Refusal(KEYS_NOT_READ)
        key = self._ring.find(_presented(head))
        if key is None:
            raise _no_key("the API key is not known: ask for one of this gateway")
        return key

    def charge(self, key: Key, facts: Facts, now: float) -> Charge | None:
        """Count a request of a key; None where there are no keys. To be settled when it is over.

        Raises:
            Refusal: a limit of the key is reached.
        """
        if key is ANYONE:
            return None
        quota = self._quotas.get(key.name)
        if quota is None:
            quota = self._quotas[key.name] = Quota()
        return quota.charge(key, facts, self.gateways, now)


def _presented(head: RequestHead) -> bytes:
    """The key in the headers, as the openai package sends it or as the anthropic package does."""
    own = head.headers.get(b"x-api-key", b"")
    authorization = head.headers.get(b"authorization", b"")
    bearer = b""
    if authorization[: len(_SCHEME)].lower() == _SCHEME:
        bearer = authorization[len(_SCHEME) :].strip()
    if own and bearer and own != bearer:
        raise _no_key("authorization and x-api-key differ: send one of them")
    if not own and not bearer:
        raise _no_key("no API key: send authorization: Bearer <key>, or x-api-key: <key>")
    return own or bearer


def _no_key(message: str) -> Refusal:
    return Refusal(INVALID_API_KEY, message, headers=_ASK)
