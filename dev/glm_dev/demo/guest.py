"""What the demo makes on somebody's own cluster, and how it goes again.

Only what was not there before the demo is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glm_dev.kubectl import KubectlError, wait_for
from glm_dev.site import SYSTEM, Site

NAMESPACE = "ml"
NAME = "vision"
RELEASE = "glm-operator"
KIND = "glmdeployments.glm-operator.io"
NO_SUCH_KIND = "the server doesn't have a resource type"
GONE_SECONDS = 400.0
"""A gateway that still relays may take minutes to end."""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that the demo makes on a cluster."""

    words: str
    look: tuple[str, ...]
    """What `kubectl get` is asked for; it prints nothing where the thing is not."""
    removal: tuple[str, ...]
    """The command that removes it."""
    trail: tuple[str, ...] = ()
    """What is asked for in the same way, goes after the thing and is waited for."""


def _namespace(name: str) -> Thing:
    return Thing(f"namespace {name}", ("namespace", name), ("kubectl", "delete", "namespace", name))


OBJECT = Thing(
    f"GLMDeployment {NAME}",
    (KIND, NAME, "-n", NAMESPACE),
    ("kubectl", "delete", KIND, NAME, "-n", NAMESPACE),
    trail=("pod", "-n", NAMESPACE, "-l", f"glm-operator.io/deployment={NAME}"),
)
NAMESPACE_OF_OBJECT = _namespace(NAMESPACE)
THINGS = (
    OBJECT,
    NAMESPACE_OF_OBJECT,
    Thing(
        f"Helm release {RELEASE}",
        ("secret", "-n", SYSTEM, "-l", f"owner=helm,name={RELEASE}"),
        ("helm", "uninstall", RELEASE, "-n", SYSTEM),
    ),
    Thing(
        f"CRD {KIND}",
        ("customresourcedefinition", KIND),
        ("kubectl", "delete", "customresourcedefinition", KIND),
    ),
    _namespace(SYSTEM),
)
"""All that the demo makes, in the order of its removal."""


def absent(site: Site) -> tuple[Thing, ...]:
    """What is not on the cluster yet; asked before the demo, it is what the demo will make."""
    return tuple(thing for thing in THINGS if not is_there(site, thing))


def is_there(site: Site, thing: Thing) -> bool:
    """Whether the cluster has it."""
    return bool(_found(site, thing.look))


def _found(site: Site, look: Sequence[str]) -> str:
    try:
        return site.kubectl.run("get", *look, "-o", "name", "--ignore-not-found").strip()
    except KubectlError as error:
        if NO_SUCH_KIND in str(error):
            return ""
        raise


def remove(site: Site, made: Sequence[Thing]) -> tuple[Thing, ...]:
    """Remove what the demo made; returns what stays because other GLMDeployments need it.

    Raises:
        KubectlError, SiteError: a removal was refused.
        WaitTimeout: something was still there after GONE_SECONDS.
    """
    for position, thing in enumerate(made):
        if thing is not OBJECT and _found(site, (KIND, "--all-namespaces")):
            return tuple(made[position:])
        if is_there(site, thing):
            _remove(site, thing)
    return ()


def _remove(site: Site, thing: Thing) -> None:
    program, *words = thing.removal
    if program == "helm":
        site.run_helm(*words)
    else:
        site.kubectl.run(*words, "--ignore-not-found", "--wait=false")
    looks = (thing.look, thing.trail) if thing.trail else (thing.look,)
    wait_for(
        f"the end of {thing.words}",
        lambda: not any(_found(site, look) for look in looks),
        GONE_SECONDS,
    )


def by_hand(made: Sequence[Thing]) -> str:
    """The commands that remove things, a line each."""
    return "\n".join("  " + " ".join(thing.removal) for thing in made)


def named(made: Sequence[Thing]) -> str:
    """The things in words, in one line."""
    return ", ".join(thing.words for thing in made)
