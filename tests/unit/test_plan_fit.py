"""Sizes against published figures, and the reasons of what was not taken."""

from __future__ import annotations

import pytest

from cluster_model import GPU, gpu_node
from glm_operator import catalog
from glm_operator.plan.fit import Ask, Fit, Hosting, fit
from glm_operator.plan.observed import Node, Taint
from glm_operator.plan.placement import Constraints
from plan_builders import engine

ANY = Constraints(GPU)
H100 = ("NVIDIA-H100-80GB-HBM3", 81_559)
H200 = ("NVIDIA-H200", 143_771)
A100_40 = ("NVIDIA-A100-SXM4-40GB", 40_960)
L4 = ("NVIDIA-L4", 23_034)


def sized(
    preset: str,
    quantization: str,
    gpu: tuple[str, int],
    gpus: int,
    tensor: int = 0,
    length: int = 0,
    fp8: bool = False,
) -> Fit:
    ask = Ask(catalog.get(preset), quantization, tensor, length, fp8)
    return fit(ask, ANY, [gpu_node("node-1", gpus, *gpu)])


@pytest.mark.parametrize(
    ("preset", "quantization", "gpu", "gpus", "tensor", "length", "thousand_tokens"),
    [
        # The worked examples of vLLM's arithmetic, by hand: tokens of BF16 KV cache.
        ("GLM-4.6V", "FP8", H100, 2, 2, 131_072, 168),
        ("GLM-4.6V", "FP8", H100, 4, 2, 131_072, 168),
        ("GLM-4.6V", "BF16", H100, 4, 4, 131_072, 352),
        ("GLM-4.6V", "BF16", H200, 2, 2, 131_072, 244),
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
    assert sized("GLM-4.6V", "FP8", H200, 1, length=65_536).options[0].max_model_len == 65_536
    assert sized("GLM-4.6V", "FP8", H200, 1, length=131_072).options == ()


def test_an_fp8_cache_holds_twice_as_much() -> None:
    whole = sized("GLM-4.6V", "FP8", H200, 1, length=65_536).options[0]
    half = sized("GLM-4.6V", "FP8", H200, 1, length=131_072, fp8=True).options[0]
    assert half.kv_tokens - 2 * whole.kv_tokens in (0, 1)


def test_the_headroom_is_what_one_full_request_leaves() -> None:
    best = sized("GLM-4.6V", "FP8", H100, 2).options[0]
    per_token = catalog.kv_bytes_per_token(catalog.get("GLM-4.6V"), 2)
    assert 0 <= best.headroom_bytes - (best.kv_tokens - best.max_model_len) * per_token < per_token


@pytest.mark.parametrize(
    ("preset", "quantization", "gpu", "gpus", "tensor", "words"),
    [
        ("GLM-4.6V", "FP8", H100, 1, 1, "102.4 GiB of weights and 6.0 GiB of reserve"),
        ("GLM-4.6V-Flash", "BF16", L4, 1, 1, "are 4.9 GiB too much"),
        ("GLM-4.6V", "FP8", H100, 4, 8, "needs 8 free GPUs on one node, and these have 4"),
        ("GLM-4.6V", "FP8", H100, 8, 3, "8 key-value heads"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_its_figure(
    preset: str, quantization: str, gpu: tuple[str, int], gpus: int, tensor: int, words: str
) -> None:
    found = sized(preset, quantization, gpu, gpus, tensor=tensor)
    assert found.options == ()
    assert words in found.rejected[0].reason


def test_the_rejection_that_came_nearest_is_first() -> None:
    ask = Ask(catalog.get("GLM-4.6V"), "FP8", 0, 0, False)
    near, far = gpu_node("a", 2, "NVIDIA-L40S", 46_068), gpu_node("b", 4, *L4)
    rejected = fit(ask, ANY, [far, near]).rejected
    assert rejected[0].option == "tensor 4 on 2 x NVIDIA-L40S (44.5 GiB)"


def test_grouped_checkpoints_are_not_split_by_the_planner() -> None:
    found = sized("GLM-4.6V", "INT4", H100, 8)
    assert [one.tensor for one in found.options] == [1]
    assert any("INT4 groups" in one.reason for one in found.rejected)


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
    rejected = fit(Ask(catalog.get("GLM-4.6V"), "FP8", 0, 0, False), ANY, tainted).rejected
    assert [(one.option, "taint x" in one.reason) for one in rejected] == [
        ("node n-0 and 8 like it", True)
    ]


@pytest.mark.parametrize(
    ("labels", "words"),
    [({}, "it has no GPU labels"), ({"nvidia.com/gpu.product": "X1"}, "does not know X1")],
)
def test_gpus_of_unknown_memory_are_refused(labels: dict[str, str], words: str) -> None:
    node = Node("n", labels, allocatable={GPU: 8})
    rejected = fit(Ask(catalog.get("GLM-4.6V"), "FP8", 0, 0, False), ANY, [node]).rejected
    assert words in rejected[0].reason


def test_nodes_without_the_resource_are_not_mentioned() -> None:
    found = fit(Ask(catalog.get("GLM-4.6V"), "FP8", 0, 0, False), ANY, [Node("cpu")])
    assert found == Fit((), ())


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (gpu_node("n", 8), ""),
        (gpu_node("n", 1), "needs 2 free GPUs on one node, and these have 1"),
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
