"""docs/metrics.md names every metric of operator and node agent, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import generate_latest

from glm_operator.agent.main import Gauges
from glm_operator.runtime.metrics import Metrics

PAGE = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
OF_THE_LIBRARY = re.compile(r"_created$")


def test_every_metric_is_documented() -> None:
    registries = (Metrics().registry, Gauges().registry)
    text = "".join(generate_latest(one).decode() for one in registries)
    served = set(re.findall(r"^# TYPE (glm_\w+)", text, re.MULTILINE))
    served = {name for name in served if not OF_THE_LIBRARY.search(name)}
    assert served == set(re.findall(r"^\| `(glm_operator_\w+)`", PAGE, re.MULTILINE))
