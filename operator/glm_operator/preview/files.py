"""Objects from files and from standard input: YAML or JSON, one document or many."""

from __future__ import annotations

import codecs
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml

from glm_operator.api import names
from glm_operator.api.errors import InvalidObject
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.convert import (
    holding_node,
    holds_of,
    is_engine,
    node_of,
    nodes_of,
    priority_class_of,
)
from glm_operator.kube.limits import items_of, limits_of, quota_of, resources_of
from glm_operator.plan.newnodes import policy_of
from glm_operator.plan.observed import PriorityClasses
from glm_operator.plan.quota import Allowance, Limits
from glm_operator.preview.errors import InvalidInputError
from glm_operator.preview.report import Around, Basis
from glm_operator.preview.version import version

Json = Mapping[str, Any]

STANDARD_INPUT = "-"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C parser where PyYAML has it: a list of 5,000 nodes takes seconds instead of minutes."""
NODES_COMMAND = "kubectl get nodes,pods -A -o json"


def read_object(path: str, namespace: str = "", otherwise: str = "") -> GLMDeployment:
    """The one GLMDeployment of a file, `-` for standard input. Raises `InvalidInputError`.

    Args:
        path: the file.
        namespace: where the object must live; an object that names another one is refused.
        otherwise: where it lives when neither it nor `namespace` says so.
    """
    shown, written = shown_as(path), _written(path)
    # As written: of two objects with the same name, nobody could say which one is meant.
    found = [document for document in written if document.get("kind") == names.KIND]
    if len(found) != 1:
        raise InvalidInputError(f"{shown} has {len(found)} objects of kind {names.KIND}: give one")
    try:
        return GLMDeployment.parse(_placed(shown, found[0], namespace, otherwise))
    except InvalidObject as error:
        raise InvalidInputError(f"{shown}: {error}") from error


def _placed(shown: str, document: Json, namespace: str, otherwise: str) -> Json:
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return document
    written = metadata.get("namespace")
    if written and namespace and written != namespace:
        raise InvalidInputError(
            f"{shown}: metadata.namespace is {written}, and --namespace is {namespace}:"
            " leave one of them out"
        )
    place = written or namespace or otherwise
    return {**document, "metadata": {**metadata, "namespace": place}} if place else document


def read_around(path: str, deployment: GLMDeployment) -> Around:
    """The cluster of a file: nodes, the GPUs that pods hold, and the limits of the namespace.

    The object's own replicas hold none: what is asked is how it would run, not whether twice.

    Raises:
        InvalidInputError: the file has no nodes, or something that cannot be read.
    """
    shown, loaded = shown_as(path), load(shown_as(path), read(path))
    documents = _once(one for document in loaded for one in _items(document))
    by_kind: dict[str, list[Json]] = defaultdict(list)
    for document in documents:
        by_kind[str(document.get("kind"))].append(document)
    if not by_kind["Node"] and not _may_be_empty(loaded, deployment):
        raise InvalidInputError(
            f"{shown} is not a node list: it has {_counted(documents)}; write"
            f" `{NODES_COMMAND}` into it"
        )
    _check(shown, "Node", by_kind["Node"], _readable_node)
    _check(shown, "Pod", by_kind["Pod"], lambda pod: _readable_pod(pod, deployment))
    _check(shown, "ResourceQuota", by_kind["ResourceQuota"], quota_of)
    _check(shown, "LimitRange", by_kind["LimitRange"], lambda one: list(items_of(one)))
    _check(shown, "ResourceSlice", by_kind["ResourceSlice"], lambda one: one["spec"]["driver"])
    _check(shown, "PriorityClass", by_kind["PriorityClass"], _named_class)
    others = (pod for pod in by_kind["Pod"] if not is_of(pod, deployment))
    return Around(
        nodes_of(by_kind["Node"], others),
        _limits(by_kind, deployment),
        frozenset(str(one["spec"]["driver"]) for one in by_kind["ResourceSlice"]),
        _priorities(by_kind["PriorityClass"]),
        Basis(f"the nodes of {shown}", version(), notes=_notes(by_kind)),
    )


def _may_be_empty(loaded: Iterable[Any], deployment: GLMDeployment) -> bool:
    """Whether an empty list is a cluster without nodes: a node autoscaler would make the first."""
    if not any(policy_of(tier) for _, tier in deployment.spec.tiers.items()):
        return False
    return any(isinstance(one, Mapping) and one.get("items") == [] for one in loaded)


def _notes(by_kind: Mapping[str, list[Json]]) -> tuple[str, ...]:
    if by_kind["Pod"] or not by_kind["Node"]:
        return ()
    return (f"the list holds no pods, so all GPUs count as free: write `{NODES_COMMAND}` into it",)


def _priorities(classes: list[Json]) -> PriorityClasses:
    """The PriorityClasses; a file without any says nothing about them."""
    values = dict(_named_class(one) for one in classes)
    return PriorityClasses(values, complete=bool(values))


def _named_class(raw: Json) -> tuple[str, int]:
    return str(raw["metadata"]["name"]), priority_class_of(raw).value


def _readable_node(raw: Json) -> None:
    """Raise unless it can be read to the end: labels of people's files may be anything."""
    for value in node_of(raw).labels.values():
        if not isinstance(value, str):
            raise TypeError("a label is no string")


def _readable_pod(raw: Json, deployment: GLMDeployment) -> None:
    """Raise unless it can be read to the end."""
    holding_node(raw)
    holds_of(raw)
    if is_of(raw, deployment):
        resources_of(raw)


def _limits(by_kind: Mapping[str, list[Json]], deployment: GLMDeployment) -> Limits:
    """The limits of the object's namespace, without what its own replicas use of them."""
    quotas, ranges = (
        [one for one in by_kind[kind] if one["metadata"].get("namespace") == deployment.namespace]
        for kind in ("ResourceQuota", "LimitRange")
    )
    account = Allowance(limits_of(quotas, ranges))
    for pod in by_kind["Pod"]:
        if is_of(pod, deployment) and is_engine(pod) and holding_node(pod):
            account.release(resources_of(pod))
    return account.limits


def is_of(pod: Json, deployment: GLMDeployment) -> bool:
    """Whether a pod is a replica of the object."""
    metadata = pod["metadata"]
    mine = (metadata.get("labels") or {}).get(names.LABEL_DEPLOYMENT) == deployment.name
    return mine and metadata.get("namespace") == deployment.namespace


def _counted(documents: Iterable[Json]) -> str:
    kinds = Counter(str(document.get("kind") or "object without a kind") for document in documents)
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())) or "no object"


def _check(shown: str, kind: str, items: Iterable[Json], read: Callable[[Json], object]) -> None:
    """Raise with the first item that cannot be read."""
    for number, item in enumerate(items, 1):
        try:
            read(item)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            lacks = (
                f"it lacks {error}" if isinstance(error, KeyError) else "a field has another type"
            )
            raise InvalidInputError(
                f"{shown}: {kind} number {number} is not as kubectl writes it ({lacks}); write"
                f" `{NODES_COMMAND}` into the file"
            ) from error


def shown_as(path: str) -> str:
    """What a path is called in a message."""
    return "standard input" if path == STANDARD_INPUT else path


def _once(items: Iterable[Json]) -> list[Json]:
    """Every object once."""
    # Lists that overlap are put together with ease, and a pod must not hold its GPUs twice.
    return list({_identity(one, place): one for place, one in enumerate(items)}.values())


def _written(path: str) -> list[Json]:
    """Every object of a file as often as it is there."""
    return [one for document in load(shown_as(path), read(path)) for one in _items(document)]


def _identity(item: Json, place: int) -> tuple[object, ...]:
    metadata = item.get("metadata")
    if not isinstance(metadata, Mapping) or not metadata.get("name"):
        return (place,)
    return item.get("kind"), str(metadata.get("namespace")), str(metadata["name"])


def read(path: str) -> bytes:
    """The bytes of a file, `-` for standard input. Raises `InvalidInputError`."""
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error


def load(shown: str, content: bytes) -> list[Any]:
    """The documents of a YAML or JSON file that is called `shown`. Raises `InvalidInputError`."""
    try:
        text = _decoded(content)
        if text.lstrip()[:1] in ("{", "["):
            documents = _json_documents(text)
            if documents is not None:
                return documents
        return list(yaml.load_all(text, Loader=LOADER))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: bytes that are no text, a 13th month, a number of thousands of digits.
        detail = " ".join(str(error).split())
        raise InvalidInputError(f"{shown} is neither YAML nor JSON: {detail}") from error


def _decoded(content: bytes) -> str:
    """A redirection on Windows writes UTF-16."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


def _json_documents(text: str) -> list[Any] | None:
    """JSON documents one after the other, many times faster than as YAML; None: it is not JSON."""
    decoder, documents = json.JSONDecoder(), []
    position = _next(text, 0)
    try:
        while position < len(text):
            document, end = decoder.raw_decode(text, position)
            documents.append(document)
            position = _next(text, end)
    except ValueError:
        return None
    return documents


def _next(text: str, position: int) -> int:
    """Where the next document begins."""
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _items(document: Any) -> Iterator[Json]:
    """The objects of a list, else the object itself; a typed list's items have no kind."""
    if isinstance(document, list):
        for one in document:
            yield from _items(one)
    elif isinstance(document, Mapping):
        items = document.get("items")
        if not isinstance(items, list):
            yield document
            return
        kind = str(document.get("kind") or "").removesuffix("List")
        yield from (
            {"kind": kind, **one} if kind else one for one in items if isinstance(one, Mapping)
        )
