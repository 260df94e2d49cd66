"""What the user gave cannot be used."""

from __future__ import annotations


class InvalidInputError(ValueError):
    """Input cannot be used; the text is one sentence that names it, its value and the way out."""
