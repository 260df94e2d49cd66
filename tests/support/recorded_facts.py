"""What weights Jobs tell of published checkpoints, as recorded in tests/data/checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "checkpoints"


def facts(name: str = "glm-4.6v-fp8", **changes: Any) -> dict[str, Any]:
    """The facts of one checkpoint; changes by path, such as text__hidden_size."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = found
        for parent in parents:
            place = place[parent]
        place[last] = value
    return found
