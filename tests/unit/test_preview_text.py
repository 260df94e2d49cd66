"""What `glm-operator plan` prints: the table, the arithmetic, and their width."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from glm_operator.api.enums import Quantization
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.catalog import GPU, GPUS
from glm_operator.plan.edits import Effect, TierEdit
from glm_operator.preview.report import Around, Basis, Report, about_new
from glm_operator.preview.shapes import nodes_of_shapes
from glm_operator.preview.table import render
from glm_operator.preview.text import columns, terminal_width, wrapped
from object_cases import FLAGSHIP, FLASH, REMOVED, base, changed

DATA = Path(__file__).resolve().parents[1] / "data" / "plans"
SINGLE = {FLASH: REMOVED}
SNAPSHOTS: dict[str, tuple[Any, list[str], bool]] = {
    "both-on-8xH100-80GB": (base(), ["8xH100-80GB"], False),
    "both-on-4xL4-24GB": (base(), ["4xL4-24GB"], False),
    "fp8-on-2xA100-80GB": (changed(SINGLE), ["2xA100-80GB"], False),
    "explained-on-2xH100-80GB": (changed(SINGLE), ["2xH100-80GB"], True),
    "explained-in-stages-on-4xL40S-48GB": (
        changed(SINGLE | {f"{FLAGSHIP}.model.quantization": "INT4"}),
        ["4xL40S-48GB"],
        True,
    ),
}


def planned(obj: Any, shapes: list[str], explain: bool = False) -> Report:
    deployment = GLMDeployment.parse(obj)
    return about_new(deployment, Around(nodes_of_shapes(shapes, deployment))).answer(explain)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_output_is_as_recorded(name: str) -> None:
    shown = render(planned(*SNAPSHOTS[name]), "table", 100)
    file = DATA / f"{name}.txt"
    assert shown == file.read_text(), (
        f"{file.name} differs: see whether each changed line is meant, then renew it with "
        "`python tests/unit/test_preview_text.py`"
    )


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", SNAPSHOTS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    lines = render(planned(*SNAPSHOTS[name]), "table", width).splitlines()
    assert [line for line in lines if len(line) > width] == []


def numbers(text: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", text)]


def test_the_arithmetic_can_be_checked_by_hand() -> None:
    (one, *_) = planned(*SNAPSHOTS["explained-on-2xH100-80GB"]).tiers["flagship"]["explain"]
    assert one["deviceBytes"] * one["utilizationPercent"] // 100 == one["usableBytes"]
    assert sum(part["gpuBytes"] for part in one["weights"]) == pytest.approx(one["weightBytes"], 8)
    cache = one["usableBytes"] - one["weightBytes"] - one["reserveBytes"]
    assert cache == one["cacheBytes"]
    token = (
        one["stage"]["layers"] * 2 * one["kvHeadsPerGpu"] * one["headDim"] * one["kvElementBytes"]
    )
    assert token == one["bytesPerToken"]
    assert cache // token == one["kvTokens"]
    assert one["kvTokens"] // one["maxModelLen"] == one["fullLengthSequences"]


def test_what_was_taken_comes_before_what_was_not() -> None:
    found = planned(*SNAPSHOTS["explained-on-2xH100-80GB"]).tiers["flagship"]["explain"]
    assert [one["taken"] for one in found] == [True, False]
    assert found[1]["option"].startswith("tensor 1 on 2 x NVIDIA-H100")
    assert "too much" in found[1]["message"]


def test_an_fp8_cache_that_was_taken_stands_beside_the_bf16_cache_that_did_not_fit() -> None:
    longest = changed(SINGLE | {f"{FLAGSHIP}.context.maxModelLen": 131072})
    found = planned(longest, ["1xH200-141GB"], explain=True).tiers["flagship"]["explain"]
    assert [(one["taken"], one["kvElementBytes"]) for one in found] == [(True, 1), (False, 2)]


@pytest.mark.parametrize("quantization", Quantization)
@pytest.mark.parametrize("row", GPUS, ids=lambda row: row.name)
def test_every_gpu_and_format_can_be_explained(row: GPU, quantization: Quantization) -> None:
    counted = changed(
        {f"{tier}.placement.acceleratorResource": row.resource for tier in (FLAGSHIP, FLASH)}
        | {f"{tier}.model.quantization": quantization.value for tier in (FLAGSHIP, FLASH)}
    )
    report = planned(counted, [f"8x{row.name}", f"1x{row.name}"], explain=True)
    lines = render(report, "table", 100).splitlines()
    assert [line for line in lines if len(line) > 100] == []
    sized = [tier for tier in report.tiers.values() if "gpu" in tier]
    assert all(tier["explain"][0]["taken"] for tier in sized)


def test_what_fits_is_not_listed_among_what_does_not() -> None:
    flagship = planned(base(), ["8xH100-80GB"]).tiers["flagship"]
    fitting = {one["option"] for one in flagship["alternatives"]}
    product = "NVIDIA-H100-80GB-HBM3"
    assert {f"tensor 4 on {product}", f"tensor 8 on {product}"} == fitting
    assert fitting.isdisjoint(one["option"] for one in flagship["rejected"])


def test_totals_are_those_of_a_purchase() -> None:
    totals = planned(base(), ["8xH100-80GB"]).totals()
    assert (totals["gpus"], totals["maxGpus"], totals["nodes"]) == (3, 10, 1)
    assert totals["gpusByProduct"] == {"NVIDIA-H100-80GB-HBM3": 3}


def test_edits_are_shown_in_their_own_words() -> None:
    edit = TierEdit("flash", Effect.RESTARTS, 2, ("model.uri",))
    report = Report(True, "Fits", "It fits.", {}, (edit,))
    text = render(report, "table", 100)
    assert "  flash: restarts, 2 replicas are replaced (model.uri)\n" in text


@pytest.mark.parametrize("mode", ["Plan", "Paused"])
def test_an_edit_that_waits_for_its_mode_says_so(mode: str) -> None:
    edit = TierEdit("flash", Effect.RESTARTS, 2, ("model.uri",))
    text = render(Report(True, "Fits", "It fits.", {}, (edit,), mode), "table", 100)
    assert f"Applied to what runs, once mode is Live and not {mode}\n" in text


@pytest.mark.parametrize(
    ("effect", "sentence"),
    [
        (Effect.REMOVED, "flash: is removed; no replica runs"),
        (Effect.ADDED, "flash: is added; starts with no replica"),
    ],
)
def test_an_edit_without_replicas_is_plain_english(effect: Effect, sentence: str) -> None:
    report = Report(True, "Fits", "It fits.", {}, (TierEdit("flash", effect, 0),))
    assert f"  {sentence}\n" in render(report, "table", 100)
    assert report.document()["edits"][0]["message"] == sentence


def growing(most: int) -> Any:
    return changed({f"{FLASH}.scaling": {"minReplicas": 1, "maxReplicas": most}})


@pytest.mark.parametrize(("most", "possible"), [(3, ""), (4, ""), (5, "4"), (8, "4"), (256, "4")])
def test_growth_beyond_the_nodes_is_warned_of(most: int, possible: str) -> None:
    report = planned(growing(most), ["8xL40S-48GB"])
    warnings = " ".join(report.tiers["flash"].get("warnings", ()))
    told = f"flash may grow to {most} replicas ({most} GPUs), and these nodes have room for 4"
    assert (report.fits, told in warnings) == (True, bool(possible))


def test_a_tenth_of_a_cpu_is_not_rounded_up() -> None:
    (name, tier) = next(iter(planned(base(), ["8xH100-80GB"]).tiers.items()))
    report = Report(True, "Fits", "It fits.", {name: tier | {"cpu": "100m"}})
    assert report.totals()["cpu"] == 0.1
    assert "; 0.1 CPU and 44.0 GiB of host" in " ".join(render(report, "table", 100).split())


def test_nodes_that_nobody_has_yet_have_no_now() -> None:
    deployment = GLMDeployment.parse(base())
    nodes = nodes_of_shapes(["2xH100-80GB"], deployment)
    around = Around(nodes, basis=Basis("the node shape 2xH100-80GB", "1", described=True))
    text = render(about_new(deployment, around).answer(False), "table", 100)
    assert text.startswith("does not fit together: together they need 3 GPUs (nvidia.com/gpu), and")


def test_a_report_sends_nobody_to_a_status() -> None:
    assert "status.plan" not in planned(base(), ["4xL4-24GB"]).message


def test_data_is_the_same_in_both_forms() -> None:
    report = planned(*SNAPSHOTS["explained-on-2xH100-80GB"])
    data = json.loads(render(report, "json", 100))
    assert data == yaml.safe_load(render(report, "yaml", 100)) == report.document()


DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "plan.md"


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    inner = (keys(one) for name, one in value.items() if name != "gpusByProduct")
    return set(value).union(*inner)


def test_every_key_of_the_data_is_documented() -> None:
    report = planned(base(), ["8xH100-80GB"], explain=True)
    edit = TierEdit("flash", Effect.RESTARTS, 2, ("model.uri",))
    data = report.document() | {"edits": [edit.document()]}
    documented = set(re.findall(r"`([a-zA-Z]+)`", DOCUMENTED.read_text()))
    assert keys(data) - documented - {"flagship", "flash"} == set()


def test_cells_that_are_too_wide_go_on_in_the_next_line() -> None:
    assert columns([["", "a"], ["nodes", "one, two, three"]], 17) == [
        "       a",
        "nodes  one, two,",
        "       three",
    ]


def test_a_long_word_is_not_cut() -> None:
    assert wrapped("a" * 20, 10) == ["a" * 20]


def test_a_pipe_is_a_hundred_columns_wide() -> None:
    assert terminal_width() == 100


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for snapshot, question in SNAPSHOTS.items():
        (DATA / f"{snapshot}.txt").write_text(render(planned(*question), "table", 100))
