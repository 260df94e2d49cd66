"""The cross-field rules of the gateway, and of the names by which clients ask; see `rules`."""

from __future__ import annotations

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


def _alias_targets_exist(spec: Any) -> bool:
    tiers = {
        "auto": True,
        "flagship": spec.tiers.flagship is not None,
        "flash": spec.tiers.flash is not None,
        "text": spec.tiers.text is not None,
    }
    return all(tiers[target] for target in spec.gateway.model_aliases.values())


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
        f"{_ALIASES}.all(a, {_ALIASES}[a] == 'auto'"
        f" || ({_ALIASES}[a] == 'flagship' && has(self.tiers.flagship))"
        f" || ({_ALIASES}[a] == 'flash' && has(self.tiers.flash))"
        f" || ({_ALIASES}[a] == 'text' && has(self.tiers.text)))",
        "gateway.modelAliases names a tier that this object does not have",
        _alias_targets_exist,
    ),
)
