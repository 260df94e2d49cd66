"""The cross-field rules of the gateway, and of the names by which clients ask; see `rules`."""

from __future__ import annotations

import re
from typing import Any

from glm_operator.api import names
from glm_operator.api.model import Rule
from glm_operator.api.rules import quoted

SERVED_NAMES = ("glm-4.6v", "glm-4.6v-flash", "glm-4.6")
"""Model names that belong to the tiers; those of older presets may be aliases for newer ones."""
LIMITS = (
    Rule(
        "limits-bytes",
        "self.maxBodyBytes <= self.maxInFlightBytes",
        "maxBodyBytes must not be above maxInFlightBytes, such a request would never be let in",
        lambda limits: limits.max_body_bytes <= limits.max_in_flight_bytes,
        given=("maxBodyBytes", "maxInFlightBytes"),
    ),
)

HEADER_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-api-key")
"""Everybody who may read the object would see their values."""
MATCH = (
    Rule(
        "rule-headers",
        f"self.headers.all(h, h.matches('{HEADER_NAME}') && !(h in {quoted(SECRET_HEADERS)}))",
        "a name in headers must be in small letters, at most 63, and none that holds a secret"
        f" ({', '.join(SECRET_HEADERS)})",
        lambda match: all(
            re.fullmatch(HEADER_NAME, name) and name not in SECRET_HEADERS for name in match.headers
        ),
    ),
)
ROUTING = (
    Rule(
        "rule-names",
        "self.rules.all(r, self.rules.exists_one(s, s.name == r.name))",
        "two rules have the same name, rename one",
        lambda routing: len({rule.name for rule in routing.tier_rules}) == len(routing.tier_rules),
    ),
)

ALIAS_LIMIT = 128
"""Characters of a client's model name."""

GATEWAY = (
    Rule(
        "alias-length",
        f"self.modelAliases.all(a, size(a) > 0 && size(a) <= {ALIAS_LIMIT})",
        f"a name in modelAliases must have 1 to {ALIAS_LIMIT} characters",
        lambda gateway: all(0 < len(name) <= ALIAS_LIMIT for name in gateway.model_aliases),
    ),
    Rule(
        "alias-shadows-model",
        f"self.modelAliases.all(a, !(a in {quoted(SERVED_NAMES)}))",
        f"modelAliases must not rename a tier's own model ({', '.join(SERVED_NAMES)})",
        lambda gateway: not any(name in SERVED_NAMES for name in gateway.model_aliases),
    ),
)


_ALIASES = "self.gateway.modelAliases"
_AUTO = "self.routing.autoModel"


def _served_names(spec: Any) -> set[str]:
    return {tier.model.preset.lower() for _, tier in spec.tiers.items()}


def _shadowed(tier: str) -> str:
    """CEL: no alias and not autoModel is the name under which a tier's own preset is served."""
    name = f"self.tiers.{tier}.model.preset.lowerAscii()"
    return f"(!has(self.tiers.{tier}) || !({name} in {_ALIASES} || {name} == {_AUTO}))"


def _has_tier(value: str) -> str:
    """CEL: the object has the tier that a value names."""
    return " || ".join(f"({value} == '{tier}' && has(self.tiers.{tier}))" for tier in names.TIERS)


def _alias_targets_exist(spec: Any) -> bool:
    present = {"auto", *(name for name, _ in spec.tiers.items())}
    return present.issuperset(spec.gateway.model_aliases.values())


def _rule_tiers_exist(spec: Any) -> bool:
    present = {name for name, _ in spec.tiers.items()}
    return all(rule.tier in present for rule in spec.routing.tier_rules)


def _rule_models_are_free(spec: Any) -> bool:
    aliases = spec.gateway.model_aliases.items()
    free = {spec.routing.auto_model, *(name for name, target in aliases if target == "auto")}
    return all(free.issuperset(rule.match.models) for rule in spec.routing.tier_rules)


SPEC = (
    Rule(
        "auto-shadows-model",
        f"!(self.routing.autoModel in {quoted(SERVED_NAMES)})",
        f"it must not be a tier's own model name ({', '.join(SERVED_NAMES)})",
        lambda spec: spec.routing.auto_model not in SERVED_NAMES,
        given=("routing.autoModel",),
    ),
    Rule(
        "alias-shadows-preset",
        " && ".join(_shadowed(tier) for tier in names.TIERS),
        "gateway.modelAliases and routing.autoModel must not be the name of a model that a tier"
        " serves (its preset in small letters)",
        lambda spec: (
            not _served_names(spec) & {spec.routing.auto_model, *spec.gateway.model_aliases}
        ),
    ),
    Rule(
        "alias-shadows-auto",
        f"!(self.routing.autoModel in {_ALIASES})",
        "gateway.modelAliases must not contain this name too",
        lambda spec: spec.routing.auto_model not in spec.gateway.model_aliases,
        given=("routing.autoModel",),
    ),
    Rule(
        "alias-target",
        f"{_ALIASES}.all(a, {_ALIASES}[a] == 'auto' || {_has_tier(f'{_ALIASES}[a]')})",
        "gateway.modelAliases names a tier that this object does not have",
        _alias_targets_exist,
    ),
    Rule(
        "rule-tier",
        f"self.routing.rules.all(r, {_has_tier('r.tier')})",
        "routing.rules names a tier that this object does not have",
        _rule_tiers_exist,
    ),
    Rule(
        "rule-models",
        f"self.routing.rules.all(r, r.match.models.all(m, m == {_AUTO}"
        f" || (m in {_ALIASES} && {_ALIASES}[m] == 'auto')))",
        "models in routing.rules must be routing.autoModel or an alias for auto in"
        " gateway.modelAliases, for the gateway chooses no tier for other names",
        _rule_models_are_free,
    ),
)
