"""The base of the object's models: one naming rule, frozen, nothing unknown, rules checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True)
class Rule:
    """A cross-field rule, once for the API server (CEL) and once for the command line (Python).

    Tests hold the two together: every rule has one accepted and one rejected object, judged by
    a real API server and by Python, with the same sentence.
    """

    name: str
    """Names the rule in tests and in the reference."""
    cel: str
    """What must hold, in the Kubernetes dialect of CEL; `self` is the object of the model."""
    message: str
    """One sentence for the user: what is wrong and the way out."""
    holds: Callable[[Any], bool] | None = None
    """The same in Python; None for a rule about an edit, which needs the object before it."""
    given: tuple[str, ...] = ()
    """JSON paths of the fields whose values begin the sentence, the one to blame first."""
    message_cel: str = ""
    """A CEL expression that gives a more exact sentence than `message`."""
    explain: Callable[[Any], str] | None = None
    """The Python twin of `message_cel`."""

    def validation(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        subject = f"{' and '.join(self.given)}: " if self.given else ""
        entry = {"rule": self.cel, "message": subject + self.message}
        exact = self.message_cel or self._given_cel()
        return entry | ({"messageExpression": exact} if exact else {})

    def _given_cel(self) -> str:
        """By `format`, because the cost of joining strings counts as unbounded."""
        if not self.given:
            return ""
        subject = " and ".join(f"{path} is %s" for path in self.given)
        values = ", ".join(f"self.{path}" for path in self.given)
        text = f"{subject}: {self.message}".replace("'", "\\'")
        return f"'{text}'.format([{values}])"

    def sentence(self, value: Any) -> str:
        """What a user is told when the rule does not hold for `value`."""
        if self.explain:
            return self.explain(value)
        parts = [f"{path} is {_at(value, path)}" for path in self.given]
        return f"{' and '.join(parts)}: {self.message}" if parts else self.message


def _at(model: Any, path: str) -> Any:
    """The value at a JSON path below a model."""
    for part in path.split("."):
        fields = type(model).model_fields.items()
        model = getattr(model, next(name for name, field in fields if field.alias == part))
    return model


def _add_rules(schema: dict[str, Any], model: type[Any]) -> None:
    """Carry the rules into the schema, as the API server reads them."""
    if model.rules:
        schema["x-kubernetes-validations"] = [rule.validation() for rule in model.rules]


def _json_name(field: str) -> str:
    """Camel case, as Kubernetes writes it: an acronym keeps its case."""
    return "kvCacheDType" if field == "kv_cache_dtype" else to_camel(field)


class Model(BaseModel):
    """Base of the object's models. Python names are snake case, JSON names camel case."""

    model_config = ConfigDict(
        alias_generator=_json_name,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra=_add_rules,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.sentence(self))
        return self
