"""Quantities as the API server writes them: 1000 comes back as `1k`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
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


def exact(quantity: object) -> Fraction | None:
    """The number that a quantity stands for, such as 1/2 for `500m`; None for no quantity at all.

    See https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        return None
    exponent = Fraction(10) ** int(found["exponent"] or 0)
    return Fraction(found["number"]) * exponent * _FACTORS[found["suffix"] or ""]


def whole(quantity: object) -> int | None:
    """A quantity as a whole number; None for one that is not whole or no quantity at all."""
    value = exact(quantity)
    return value.numerator if value is not None and value.denominator == 1 else None


def amounts(quantities: Mapping[str, object]) -> dict[str, Fraction]:
    """The numbers of a map of quantities; what is no quantity is left out."""
    found = {name: exact(quantity) for name, quantity in quantities.items()}
    return {name: amount for name, amount in found.items() if amount is not None}


def text(amount: Fraction) -> str:
    """An amount as a person writes it: `128Gi` for bytes, `500m` for half a core, `8`."""
    if amount.denominator != 1:
        thousandths = amount * 1000
        return f"{thousandths}m" if thousandths.denominator == 1 else f"{float(amount):.3f}"
    for suffix in ("Ti", "Gi", "Mi"):
        if amount and amount % _FACTORS[suffix] == 0:
            return f"{amount / _FACTORS[suffix]}{suffix}"
    return str(amount)
