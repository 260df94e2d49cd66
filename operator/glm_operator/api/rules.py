"""The cross-field rules of the object: each once in CEL, once in Python, with one sentence.

This file knows the models by their attributes only, so that they can import it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from glm_operator.api import flags, shapes, weights_rules
from glm_operator.api.fields import KEY_LIMIT, LABEL_KEY
from glm_operator.api.model import Rule

NAME_LIMIT = 40
"""Longest name of an object: children add a tier, a revision and a number to it."""
OBJECT_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""The object's name begins names of Services, which are stricter than most (RFC 1035)."""
URI = (
    r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
    r"|(file|image)://(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+)$"
)
"""No path segment begins with a dot, so none leaves its volume."""
LEGAL_TENSOR = (1, 2, 4, 8, 16, 32)
"""Legal tensor parallel sizes of every model; the catalogue derives the same from their shapes."""
CONTEXT_LIMITS = {
    "GLM-4.6V": 131_072,
    "GLM-4.5V": 65_536,
    "GLM-4.6V-Flash": 131_072,
    "GLM-4.1V-9B-Thinking": 65_536,
    "GLM-4.6": 202_752,
}
"""Longest conversation of each model in tokens; the catalogue has the same."""
GROUP_SIZES = {"Auto": (0,), "BF16": (0,), "FP8": (0, 128), "INT4": (0, 32, 64, 128)}
"""Group sizes by quantization; 0 is the usual one."""
SHORTEST_CONTEXT = 2048
"""Tokens; less does not hold the functional checks of a new replica."""


def quoted(values: tuple[str, ...]) -> str:
    """A CEL list of strings."""
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def _cel_pattern(pattern: str) -> str:
    return json.dumps(pattern)


MODEL = (
    Rule(
        "model-uri",
        f"self.uri.matches({_cel_pattern(URI)})",
        "it must be hf://organisation/name, pvc://claim/path, file:///path or image:///path"
        " (letters, digits and . _ - in each part)",
        lambda model: re.fullmatch(URI, model.uri) is not None,
        given=("uri",),
    ),
    Rule(
        "model-revision",
        "self.revision == '' || self.uri.startsWith('hf://')",
        "revision names a commit on the hub, leave it empty unless uri begins with hf://",
        lambda model: not model.revision or model.uri.startswith("hf://"),
        given=("revision", "uri"),
    ),
    Rule(
        "model-group-size",
        "self.groupSize == 0 || (self.quantization == 'FP8' && self.groupSize == 128)"
        " || (self.quantization == 'INT4' && self.groupSize in [32, 64, 128])",
        "Auto and BF16 have no groups, FP8 one scale per output (0) or blocks of 128, INT4 groups"
        " of 32, 64 or 128 (0 is 128)",
        lambda model: model.group_size in GROUP_SIZES[model.quantization],
        given=("groupSize", "quantization"),
    ),
)

_OPTION = "a.split('=')[0].split('.')[0].replace('_', '-')"
_POSITIVE = f"{_OPTION}.replace('{flags.NEGATION}', '--')"


def _abbreviates(known: tuple[str, ...], option: str = _OPTION) -> str:
    """CEL: argument `a` names one of the known options, or abbreviates one."""
    return f"(a.startsWith('--') && {quoted(known)}.exists(f, f.startsWith({option})))"


_OPERATORS = (
    f"({_abbreviates(flags.OPERATOR_FLAGS, _POSITIVE)}"
    f" || {quoted(flags.SHORT_FLAGS)}.exists(f, a.startsWith(f)))"
)
_DANGEROUS = _abbreviates(flags.DANGEROUS_FLAGS)
_OPERATORS_END = " is set by the operator: use the fields of the object instead"
_DANGEROUS_END = " is refused: it would open the engine to its clients or expose what they send"


def _first(values: Iterable[str], refused: Callable[[str], bool]) -> str:
    return next(value for value in values if refused(value))


def _arguments(name: str, test: str, end: str, refused: Callable[[str], bool]) -> Rule:
    return Rule(
        name,
        f"self.extraArgs.all(a, !{test})",
        f"an item of extraArgs{end}",
        lambda engine: not any(refused(argument) for argument in engine.extra_args),
        message_cel=f"'extraArgs: ' + self.extraArgs.filter(a, {test})[0] + '{end}'",
        explain=lambda engine: f"extraArgs: {_first(engine.extra_args, refused)}{end}",
    )


_TWO_WORDS = "(a.startsWith('-') && a.contains(' ') && !a.contains('='))"
_TWO_WORDS_END = " holds two words: give option and value as two items, or join them with ="

ENGINE = (
    _arguments("engine-args-words", _TWO_WORDS, _TWO_WORDS_END, flags.is_two_words),
    _arguments("engine-args-operator", _OPERATORS, _OPERATORS_END, flags.is_operators),
    _arguments("engine-args-dangerous", _DANGEROUS, _DANGEROUS_END, flags.is_dangerous),
)


def _variable(name: str, known: tuple[str, ...], end: str) -> Rule:
    return Rule(
        name,
        f"!(self.name in {quoted(known)})",
        f"a variable of env{end}",
        lambda variable: variable.name not in known,
        message_cel=f"'env: ' + self.name + '{end}'",
        explain=lambda variable: f"env: {variable.name}{end}",
    )


VARIABLE = (
    _variable("engine-env-operator", flags.OPERATOR_VARIABLES, " is set by the operator"),
    _variable("engine-env-dangerous", flags.DANGEROUS_VARIABLES, _DANGEROUS_END),
)

CONTEXT = (
    Rule(
        "context-length",
        f"self.maxModelLen == 0 || self.maxModelLen >= {SHORTEST_CONTEXT}",
        f"it must be 0 (the longest that fits) or at least {SHORTEST_CONTEXT} tokens",
        lambda context: not 0 < context.max_model_len < SHORTEST_CONTEXT,
        given=("maxModelLen",),
    ),
)

TOLERATION = (
    Rule(
        "toleration",
        "self.operator == 'Exists' ? self.value == '' : self.key != ''",
        "a toleration needs a key with operator Equal, and no value with operator Exists",
        lambda item: not item.value if item.operator == "Exists" else bool(item.key),
    ),
)


def _is_kubernetes_resource(placement: Any) -> bool:
    domain = placement.accelerator_resource.split("/")[0]
    return bool(re.fullmatch(r"^(.*\.)?kubernetes\.io$", domain))


NODE_AUTOSCALER = (
    Rule(
        "node-shape",
        f"self.nodeShape.matches({_cel_pattern(shapes.SHAPE)})",
        "it must be empty, or the number of GPUs of one node and their name, such as 8xH100-80GB"
        f" ({', '.join((*shapes.NVIDIA, *shapes.AMD))})",
        lambda asked: re.fullmatch(shapes.SHAPE, asked.node_shape) is not None,
        given=("nodeShape",),
    ),
)


def _shape_is_counted(placement: Any) -> bool:
    shape = placement.node_autoscaler.node_shape
    if placement.provisioning == "None" or not shape:
        return True
    is_amd = re.fullmatch(shapes.AMD_SHAPE, shape) is not None
    return bool(is_amd == placement.accelerator_resource.startswith("amd.com/"))


PLACEMENT = (
    Rule(
        "provisioned-nodes",
        "self.provisioning == 'None' || size(self.nodeNames) == 0",
        "a node that comes has no name yet, leave nodeNames empty and use nodeSelector",
        lambda placement: placement.provisioning == "None" or not placement.node_names,
        given=("provisioning",),
    ),
    Rule(
        "provisioned-resource",
        "self.provisioning == 'None' || self.nodeAutoscaler.nodeShape == ''"
        f" || self.nodeAutoscaler.nodeShape.matches({_cel_pattern(shapes.AMD_SHAPE)})"
        " == self.acceleratorResource.startsWith('amd.com/')",
        "these GPUs are not counted by this resource, AMD's are amd.com/gpu and NVIDIA's"
        " nvidia.com/gpu",
        _shape_is_counted,
        given=("nodeAutoscaler.nodeShape", "acceleratorResource"),
    ),
    Rule(
        "pinned-nodes",
        "size(self.nodeNames) == 0 || self.pinning != 'None'",
        "nodeNames needs Required or Preferred, with None the scheduler chooses the node",
        lambda placement: not placement.node_names or placement.pinning != "None",
        given=("pinning",),
    ),
    Rule(
        "selector-keys",
        f"self.nodeSelector.all(k, size(k) <= {KEY_LIMIT} && k.matches({_cel_pattern(LABEL_KEY)}))",
        "a key of nodeSelector must be a label's name, such as pool or example.com/pool",
        lambda placement: all(
            len(key) <= KEY_LIMIT and re.fullmatch(LABEL_KEY, key)
            for key in placement.node_selector
        ),
    ),
    Rule(
        "accelerator-resource",
        "!self.acceleratorResource.matches('^([^/]*[.])?kubernetes[.]io/')",
        "it must be an extended resource of a device plugin, such as nvidia.com/gpu,"
        " which has another domain than kubernetes.io",
        lambda placement: not _is_kubernetes_resource(placement),
        given=("acceleratorResource",),
    ),
)


def tier(why: str, *presets: str) -> tuple[Rule, ...]:
    """The rules of a tier that serves one of some presets.

    `why`: what tensor parallelism divides in them.
    """
    sizes = ", ".join(map(str, LEGAL_TENSOR))
    tensor = Rule(
        "tensor-legal",
        f"self.parallelism.tensor in {quoted(('Auto', *map(str, LEGAL_TENSOR)))}",
        f"it must be Auto or one of {sizes}, so that {why} divide evenly",
        lambda tier: tier.parallelism.tensor in ("Auto", *map(str, LEGAL_TENSOR)),
        given=("parallelism.tensor",),
    )
    return (
        tensor,
        *weights_rules.OF_TIER,
        *(_context_limit(preset) for preset in presets),
    )


def _context_limit(preset: str) -> Rule:
    limit = CONTEXT_LIMITS[preset]
    return Rule(
        "context-limit",
        f"self.model.preset != '{preset}' || self.context.maxModelLen <= {limit}",
        f"{preset} holds at most {limit} tokens, and 0 is the longest that fits",
        lambda tier: tier.model.preset != preset or tier.context.max_model_len <= limit,
        given=("context.maxModelLen",),
    )


SCALING = (
    Rule(
        "scaling-range",
        "self.minReplicas <= self.maxReplicas",
        "minReplicas must not be above maxReplicas",
        lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        given=("minReplicas", "maxReplicas"),
    ),
    Rule(
        "scaling-zero",
        "self.minReplicas > 0 || self.mode == 'Internal'",
        "minReplicas 0 needs mode Internal, only the operator wakes flash for a request",
        lambda scaling: scaling.min_replicas > 0 or scaling.mode == "Internal",
        given=("minReplicas", "mode"),
    ),
)

FLASH = (
    Rule(
        "expert-dense",
        "self.parallelism.expert != 'Enabled'",
        "parallelism.expert Enabled needs a mixture of experts, and the models of flash are dense:"
        " leave it Auto",
        lambda tier: tier.parallelism.expert != "Enabled",
    ),
    Rule(
        "one-writer-of-replicas",
        "self.scaling.mode != 'Internal' || oldSelf.scaling.mode != 'Internal'"
        " || self.replicas == oldSelf.replicas",
        "flash is scaled by the operator: change minReplicas or maxReplicas, or set scaling.mode",
    ),
)

TIERS = (
    Rule(
        "one-tier",
        "has(self.flagship) || has(self.flash) || has(self.text)",
        "tiers needs at least one of flagship, flash and text",
        lambda tiers: bool(tiers.items()),
    ),
)

OBJECT = (
    Rule(
        "name-length",
        f"size(self.metadata.name) <= {NAME_LIMIT}",
        f"it must have at most {NAME_LIMIT} characters, because its pods' names are longer",
        lambda item: len(item.metadata.name) <= NAME_LIMIT,
        given=("metadata.name",),
    ),
    Rule(
        "name-form",
        f"self.metadata.name.matches('{OBJECT_NAME}')",
        "it must begin with a letter and hold only a-z, 0-9 and -, as a Service's name does",
        lambda item: re.fullmatch(OBJECT_NAME, item.metadata.name) is not None,
        given=("metadata.name",),
    ),
)
