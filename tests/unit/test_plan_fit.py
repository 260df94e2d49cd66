"""Sizes against published figures, and the reasons of what was not taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster_model import GPU, gpu_node
from glm_operator import catalog
from glm_operator.catalog import Format, Sharding, gpus, memory
from glm_operator.plan.advice import helps
from glm_operator.plan.fit import Fit, fit
from glm_operator.plan.hosting import Hosting
from glm_operator.plan.observed import Node, Taint
from glm_operator.plan.placement import Constraints
from glm_operator.plan.sizing import Ask
from plan_builders import engine

ANY = Constraints(GPU)
H100 = ("NVIDIA-H100-80GB-HBM3", 81_559)
H200 = ("NVIDIA-H200", 143_771)
A100_40 = ("NVIDIA-A100-SXM4-40GB", 40_960)
L4 = ("NVIDIA-L4", 23_034)


FLAGSHIP_FP8 = Ask(catalog.get("GLM-4.6V"), Format("FP8"))


def sized(preset: str, form: str | Format, gpu: tuple[str, int], count: int, **wanted: Any) -> Fit:
    kind = Format(form) if isinstance(form, str) else form
    ask = Ask(catalog.get(preset), kind, **wanted)
    return fit(ask, ANY, [gpu_node("node-1", count, *gpu)])


@pytest.mark.parametrize(
    ("preset", "quantization", "gpu", "gpus", "tensor", "length", "thousand_tokens"),
    [
        # The worked examples of vLLM's arithmetic, by hand: tokens of BF16 KV cache.
        ("GLM-4.6V", "FP8", H100, 2, 2, 131_072, 167),
        ("GLM-4.6V", "FP8", H100, 4, 2, 131_072, 167),
        ("GLM-4.6V", "BF16", H100, 4, 4, 131_072, 350),
        ("GLM-4.6V", "BF16", H200, 2, 2, 131_072, 243),
        ("GLM-4.6V", "FP8", H200, 1, 1, 113_664, 114),
        ("GLM-4.6V-Flash", "BF16", H100, 1, 1, 131_072, 1248),
        ("GLM-4.6V-Flash", "BF16", A100_40, 1, 1, 131_072, 292),
        ("GLM-4.6V-Flash", "BF16", L4, 2, 2, 131_072, 200),
        ("GLM-4.6V-Flash", "FP8", L4, 1, 1, 68_608, 69),
    ],
)
def test_the_smallest_size_that_fits_is_taken(
    preset: str,
    quantization: str,
    gpu: tuple[str, int],
    gpus: int,
    tensor: int,
    length: int,
    thousand_tokens: int,
) -> None:
    best = sized(preset, quantization, gpu, gpus).options[0]
    found = (best.tensor, best.max_model_len, best.kv_tokens // 1000)
    assert found == (tensor, length, thousand_tokens)


def test_two_gpus_with_the_full_context_come_before_one_with_less() -> None:
    options = sized("GLM-4.6V", "FP8", H200, 8).options
    assert [one.tensor for one in options] == [2, 4, 8, 1]


def test_an_explicit_length_is_kept_or_refused() -> None:
    kept = sized("GLM-4.6V", "FP8", H200, 1, max_model_len=65_536, kv_cache="BF16")
    refused = sized("GLM-4.6V", "FP8", H200, 1, max_model_len=131_072, kv_cache="BF16")
    assert (kept.options[0].max_model_len, refused.options) == (65_536, ())


def test_an_automatic_cache_is_fp8_only_where_bf16_fits_nowhere() -> None:
    explicit = sized("GLM-4.6V", "FP8", H200, 1, max_model_len=131_072)
    assert [one.fp8_kv_cache for one in explicit.options] == [True]
    assert "costs some accuracy" in explicit.options[0].warnings[0]
    assert "tensor 1 on" in explicit.rejected[-1].option
    assert not sized("GLM-4.6V", "FP8", H200, 1).options[0].fp8_kv_cache


def test_an_automatic_cache_is_never_fp8_on_gpus_without_fp8_units() -> None:
    a100 = ("NVIDIA-A100-SXM4-80GB", 81_920)
    wanted = {"tensor": 2, "max_model_len": 131_072, "sequences": 2}
    assert sized("GLM-4.6V", "FP8", a100, 8, **wanted).options == ()
    assert sized("GLM-4.6V", "FP8", H100, 8, **wanted).options[0].fp8_kv_cache


def test_an_fp8_cache_holds_twice_as_much() -> None:
    whole = sized("GLM-4.6V", "FP8", H200, 1, max_model_len=65_536).options[0]
    half = sized("GLM-4.6V", "FP8", H200, 1, max_model_len=131_072, kv_cache="FP8").options[0]
    assert half.kv_tokens - 2 * whole.kv_tokens in (0, 1)


def test_the_headroom_is_what_one_full_request_leaves() -> None:
    best = sized("GLM-4.6V", "FP8", H100, 2).options[0]
    per_token = catalog.kv_bytes_per_token(catalog.get("GLM-4.6V"), 2)
    assert 0 <= best.headroom_bytes - (best.kv_tokens - best.max_model_len) * per_token < per_token


@pytest.mark.parametrize(
    ("preset", "quantization", "gpu", "gpus", "tensor", "words"),
    [
        ("GLM-4.6V", "FP8", H100, 1, 1, "102.5 GiB of weights and 6.0 GiB of reserve"),
        ("GLM-4.6V-Flash", "BF16", L4, 1, 1, "are 4.9 GiB too much"),
        ("GLM-4.6V", "FP8", H100, 4, 8, "needs 8 GPUs on one node, and these have 4"),
        ("GLM-4.6V", "FP8", H100, 8, 3, "8 key-value heads"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_its_figure(
    preset: str, quantization: str, gpu: tuple[str, int], gpus: int, tensor: int, words: str
) -> None:
    found = sized(preset, quantization, gpu, gpus, tensor=tensor)
    assert found.options == ()
    assert words in found.rejected[0].message


def test_the_rejection_that_came_nearest_is_first() -> None:
    near, far = gpu_node("a", 2, "NVIDIA-L40S", 46_068), gpu_node("b", 4, *L4)
    rejected = fit(FLAGSHIP_FP8, ANY, [far, near]).rejected
    assert rejected[0].option == "tensor 4 on 2 x NVIDIA-L40S (44.5 GiB)"


def test_grouped_checkpoints_are_not_split_by_the_planner() -> None:
    found = sized("GLM-4.6V", "INT4", H100, 8)
    assert [one.tensor for one in found.options] == [1]
    assert any("INT4 in groups of 128" in one.message for one in found.rejected)


def test_an_explicit_size_that_groups_forbid_is_kept_with_a_warning() -> None:
    (option,) = sized("GLM-4.6V", "INT4", H100, 8, tensor=2).options
    assert "starts only if the checkpoint leaves that layer unquantised" in option.warnings[0]


def test_stages_are_looked_at_where_nothing_fits_without_them() -> None:
    best = sized("GLM-4.6V", "INT4", ("NVIDIA-L40S", 46_068), 8).options[0]
    assert (best.tensor, best.pipeline, best.max_model_len) == (1, 4, 131_072)
    assert all(one.pipeline == 1 for one in sized("GLM-4.6V", "FP8", H100, 8).options)


def test_explicit_stages_are_kept() -> None:
    options = sized("GLM-4.6V", "FP8", H100, 8, pipeline=2).options
    assert {one.pipeline for one in options} == {2}
    assert options[0].sharding.gpus == 2


def test_an_automatic_length_leaves_the_sequences_that_are_asked_for() -> None:
    found = sized("GLM-4.6V", "FP8", H100, 2, sequences=4).options[0]
    assert (found.max_model_len, found.full_length_sequences) == (40_960, 4)


def test_an_automatic_length_holds_an_image_of_the_largest_size() -> None:
    l4 = ("NVIDIA-L4", 23_164)
    assert sized("GLM-4.6V", "FP8", l4, 8).options == ()
    assert sized("GLM-4.6V", "FP8", l4, 8, max_model_len=2048).options


@pytest.mark.parametrize(
    ("count", "gpu", "batch"), [(2, H100, 163), (8, H200, 256), (1, H200, 111)]
)
def test_a_replica_runs_as_many_short_requests_as_its_cache_holds(
    count: int, gpu: tuple[str, int], batch: int
) -> None:
    assert sized("GLM-4.6V", "FP8", gpu, count).options[0].max_num_seqs == batch


@pytest.mark.parametrize(
    ("form", "gpu", "words"),
    [("FP8", "A100-80GB", "has no FP8 units"), ("FP8", "L40S-48GB", ""), ("BF16", "A40-48GB", "")],
)
def test_fp8_weights_without_fp8_units_are_allowed_with_a_warning(
    form: str, gpu: str, words: str
) -> None:
    row = gpus.named(gpu)
    assert row is not None
    node = Node("n", gpus.labels_of(row), allocatable={GPU: 8})
    best = fit(Ask(catalog.get("GLM-4.6V-Flash"), Format(form)), ANY, [node]).options[0]
    assert [words in one for one in best.warnings] == ([True] if words else [])


def amd_node(name: str, count: int = 8) -> Node:
    row = gpus.named(name)
    assert row is not None
    return Node("amd-1", gpus.labels_of(row), allocatable={gpus.AMD_RESOURCE: count})


@pytest.mark.parametrize(("form", "fits"), [("BF16", True), ("FP8", False)])
def test_amd_gpus_without_fp8_units_take_only_bf16(form: str, fits: bool) -> None:
    ask = Ask(catalog.get("GLM-4.6V-Flash"), Format(form))
    found = fit(ask, Constraints(gpus.AMD_RESOURCE), [amd_node("MI210-64GB")])
    assert bool(found.options) is fits


def test_the_flagship_fits_one_large_amd_gpu() -> None:
    wanted = Constraints(gpus.AMD_RESOURCE)
    best = fit(FLAGSHIP_FP8, wanted, [amd_node("MI300X-192GB")]).options[0]
    assert (best.sharding, best.full_length_sequences) == (Sharding(1), 2)


@pytest.mark.parametrize(
    ("ask", "count", "gpu", "first"),
    [
        (Ask(catalog.get("GLM-4.6V"), Format("BF16")), 2, H100, "a checkpoint in FP8 (tensor 2"),
        (
            Ask(catalog.get("GLM-4.6V"), Format("FP8"), max_model_len=131_072, kv_cache="BF16"),
            1,
            H200,
            "context.maxModelLen: 113664 or less",
        ),
        (
            Ask(catalog.get("GLM-4.6V"), Format("FP8"), tensor=1),
            4,
            H100,
            "parallelism.tensor: 2 and pipeline: 1",
        ),
        (
            Ask(catalog.get("GLM-4.6V"), Format("FP8"), sequences=8, max_model_len=131_072),
            2,
            H100,
            "context.fullLengthSequences: 1",
        ),
        (Ask(catalog.get("GLM-4.6V"), Format("FP8")), 1, L4, "a node of 2 x H100-80GB"),
    ],
)
def test_the_smallest_change_that_would_help_comes_first(
    ask: Ask, count: int, gpu: tuple[str, int], first: str
) -> None:
    node = gpu_node("n", count, *gpu)
    assert fit(ask, ANY, [node]).options == ()
    assert helps(ask, ANY, [node])[0].startswith(first)


def test_help_without_any_node_names_one_that_would_do() -> None:
    assert helps(FLAGSHIP_FP8, ANY, []) == ("a node of 2 x H100-80GB",)


SLICES = ("NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", 40_448)


def test_slices_of_gpus_are_not_joined() -> None:
    found = sized("GLM-4.6V", "FP8", SLICES, 8)
    assert found.options == ()
    tensor_2 = next(one for one in found.rejected if one.option.startswith("tensor 2 "))
    assert tensor_2.message == f"{SLICES[0]} is a slice of a GPU, and slices cannot work together"


def test_one_slice_holds_a_small_model() -> None:
    options = sized("GLM-4.6V-Flash", "FP8", SLICES, 8).options
    assert {(one.tensor, one.pipeline) for one in options} == {(1, 1)}


def test_nodes_that_placement_leaves_out_are_told_once_per_reason() -> None:
    tainted = [
        Node(
            f"n-{index}",
            {"nvidia.com/gpu.memory": "81559"},
            (Taint("x", "", "NoSchedule"),),
            allocatable={GPU: 8},
        )
        for index in range(9)
    ]
    rejected = fit(FLAGSHIP_FP8, ANY, tainted).rejected
    assert [(one.option, "taint x" in one.message) for one in rejected] == [
        ("node n-0 and 8 like it", True)
    ]


@pytest.mark.parametrize(
    ("labels", "words"),
    [({}, "it has no GPU labels"), ({"nvidia.com/gpu.product": "X1"}, "does not know X1")],
)
def test_gpus_of_unknown_memory_are_refused(labels: dict[str, str], words: str) -> None:
    node = Node("n", labels, allocatable={GPU: 8})
    rejected = fit(FLAGSHIP_FP8, ANY, [node]).rejected
    assert words in rejected[0].message


def test_nodes_without_the_resource_are_not_mentioned() -> None:
    found = fit(FLAGSHIP_FP8, ANY, [Node("cpu")])
    assert found == Fit((), ())


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (gpu_node("n", 8), ""),
        (gpu_node("n", 1), "needs 2 GPUs on one node, and these have 1"),
        (gpu_node("n", 8, *L4), "too much"),
        (Node("n", allocatable={GPU: 8}), "no GPU labels"),
    ],
)
def test_a_node_hosts_what_its_gpus_hold(node: Node, words: str) -> None:
    refusal = Hosting(engine(max_model_len=131_072)).refusal(node)
    assert (words in refusal) if words else refusal == ""


def test_a_rebooted_node_without_gpus_hosts_nothing_though_its_sister_does() -> None:
    hosting = Hosting(engine())
    sound, rebooted = gpu_node("a", 8), gpu_node("b", 0)
    assert [bool(hosting.refusal(one)) for one in (sound, rebooted, sound)] == [False, True, False]


def test_a_recorded_size_stays_hosted_by_the_gpu_it_was_computed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = gpu_node("n", 1, *H200)
    option = sized("GLM-4.6V", "FP8", H200, 1).options[0]
    recorded = engine(tensor=1, max_model_len=option.max_model_len, gpu_bytes=option.gpu_bytes)
    # A later version that knows the reserve better.
    monkeypatch.setattr(memory, "RESERVE_BYTES", memory.RESERVE_BYTES + (1 << 28))
    assert Hosting(recorded).refusal(node) == ""
    assert "of reserve" in Hosting(replace(recorded, gpu_bytes=0)).refusal(node)
    smaller = gpu_node("m", 1, "NVIDIA-H100-NVL", 95_830)
    assert "of reserve" in Hosting(recorded).refusal(smaller)


def test_the_gpu_that_a_size_was_computed_for_names_no_revision() -> None:
    assert engine(gpu_bytes=1 << 36).revision() == engine().revision()


@pytest.mark.parametrize(
    ("cpu_milli", "gibibytes", "words"),
    [
        (0, 0, ""),
        (8000, 44, ""),
        (4000, 64, "gives pods 4 CPUs and 64.0 GiB of memory, and a replica asks for 8 CPUs"),
        (8000, 16, "gives pods 8 CPUs and 16.0 GiB of memory"),
    ],
)
def test_a_node_with_too_little_cpu_or_memory_hosts_nothing(
    cpu_milli: int, gibibytes: int, words: str
) -> None:
    node = replace(gpu_node("n", 8), cpu_milli=cpu_milli, memory_bytes=gibibytes << 30)
    hosting = Hosting(engine(cpu="8", memory="44Gi"))
    refusal = hosting.refusal(node)
    assert (words in refusal) if words else refusal == ""
    assert bool(hosting.hosts([node])) is (refusal == "")


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (Constraints(GPU, ("gone",)), "other nodes in placement.nodeNames, or none"),
        (Constraints(GPU, (), {"pool": "b"}), "placement.nodeSelector without pool=b"),
        (Constraints(GPU), "a toleration of the taint team in placement.tolerations"),
    ],
)
def test_placement_that_alone_is_in_the_way_is_named_before_a_purchase(
    wanted: Constraints, first: str
) -> None:
    taints = (Taint("team", "", "NoSchedule"),) if wanted == Constraints(GPU) else ()
    node = replace(gpu_node("n", 8), taints=taints)
    assert helps(FLAGSHIP_FP8, wanted, [node])[0] == first


@pytest.mark.parametrize(("videos", "length", "told"), [(1, 16_384, True), (1, 65_536, False)])
def test_a_context_that_holds_no_whole_video_is_told(videos: int, length: int, told: bool) -> None:
    found = sized("GLM-4.6V-Flash", "BF16", H100, 1, videos=videos, max_model_len=length)
    assert ["a video may take" in one for one in found.options[0].warnings] == [True] * told
