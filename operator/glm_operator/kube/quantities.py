"""Quantities as the API server writes them: 1000 comes back as `1k`. Pure."""

from __future__ import annotations

import re
from fractions import Fraction

# Bounded digits: a number with an exponent of thousands would be computed for minutes.
_QUANTITY = re.compile(
    r"\+?(?P<number>\d{1,19}(?:\.\d{0,19})?|\.\d{1,19})"
    r"(?:[eE](?P<exponent>[+-]?\d{1,2})|(?P<suffix>[numkMGTPE]|[KMGTPE]i))?"
)
_FACTORS = {
    "": Fraction(1),
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate("mun", 1)},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}


def whole(quantity: object) -> int | None:
    """A quantity as a whole number; None for one that is not whole or no quantity at all."""
    value = amount(quantity)
    return value.numerator if value is not None and value.denominator == 1 else None


def amount(quantity: object) -> Fraction | None:
    """A quantity as a number; None for what is none.

    See https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        return None
    exponent = Fraction(10) ** int(found["exponent"] or 0)
    return Fraction(found["number"]) * exponent * _FACTORS[found["suffix"] or ""]
