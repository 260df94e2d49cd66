"""docs/gateway.md, docs/routing.md and docs/metrics.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from gateway_fakes import run, running
from glm_serving.gateway import config, priors, reasons
from glm_serving.gateway.accesslog import Entry

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "gateway.md").read_text() + (DOCS / "routing.md").read_text()
METRICS = (DOCS / "metrics.md").read_text()


def test_every_decision_is_documented_in_its_words() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)
    found = {name: text for name, text in rows if name in reasons.DECISIONS}
    assert found == {name: reason.sentence for name, reason in reasons.DECISIONS.items()}


def test_every_error_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert {(n, int(s), t) for n, s, t in rows} == {
        (reason.name, reason.status, reason.sentence) for reason in reasons.ERRORS.values()
    }


def test_every_task_is_documented_with_its_lead() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| [^|]+ \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert {task: float(lead) for task, lead in rows} == dict(priors.LEADS)


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("", config.Config),
        ("tiers.*.", config.TierConfig),
        ("limits.", config.Limits),
        ("auth.", config.Auth),
        ("media.", config.Media),
    ],
)
def test_every_key_of_the_configuration_is_documented(prefix: str, kind: type) -> None:
    keys = {f"{prefix}{field.encode_name}" for field in msgspec.structs.fields(kind)}
    documented = set(re.findall(r"`([\w.*]+)`", PAGE))
    assert keys - {"limits", "auth", "media"} <= documented


def test_every_metric_is_documented() -> None:
    async def scenario() -> set[str]:
        async with running() as gateway:
            text = gateway.admin.page(b"GET", b"/metrics").body.decode()
            return set(re.findall(r"^# TYPE (glm_\w+)", text, re.MULTILINE))

    assert run(scenario()) == set(re.findall(r"`(glm_gateway_\w+)`", METRICS))


def test_every_field_of_the_access_log_is_documented() -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(Entry)}
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", METRICS, re.MULTILINE)
    assert fields <= set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_the_example_configuration_is_usable() -> None:
    example = re.search(r"^```json\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert example is not None
    assert set(config.parse(example[1].encode()).tiers) == {"flagship", "flash"}
