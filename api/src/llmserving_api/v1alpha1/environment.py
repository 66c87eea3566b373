"""Environment variables of the engine, as in a pod, but bounded and typed."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from llmserving_api.v1alpha1.fields import DataKey, Model, ObjectName
from llmserving_api.v1alpha1.owned import VariableName
from llmserving_api.v1alpha1.rules import Rule


class KeySelector(Model):
    """A key of a Secret or ConfigMap in the resource's namespace."""

    name: Annotated[ObjectName, Field(description="name of the object.")]
    key: Annotated[DataKey, Field(description="key within the object.")]
    optional: Annotated[bool | None, Field(description="optional: the pod starts without the object or key.")] = None


class FieldSelector(Model):
    """A field of the pod."""

    field_path: Annotated[str, Field(min_length=1, max_length=256, description="fieldPath such as status.podIP.")]


class EnvVarSource(Model):
    """Where a variable's value comes from; exactly one of the three."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(set, set).size() == 1",
            "write exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        ),
    )

    secret_key_ref: Annotated[KeySelector | None, Field(description="secretKeyRef: a key of a Secret.")] = None
    config_map_key_ref: Annotated[KeySelector | None, Field(description="configMapKeyRef: a key of a ConfigMap.")] = (
        None
    )
    field_ref: Annotated[FieldSelector | None, Field(description="fieldRef: a field of the pod.")] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.secret_key_ref, self.config_map_key_ref, self.field_ref].count(None) != 2:
            raise ValueError(self.rules[0].message)
        return self


class EnvVar(Model):
    """An environment variable of the engine."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!(has(self.value) && has(self.valueFrom))", "write value or valueFrom, not both"),
    )

    name: Annotated[str, Field(min_length=1, max_length=128, description="name of the variable."), VariableName()]
    value: Annotated[str | None, Field(max_length=4096, description="value of the variable; empty when absent.")] = None
    value_from: Annotated[
        EnvVarSource | None, Field(description="valueFrom: a Secret, a ConfigMap or a field of the pod.")
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError(self.rules[0].message)
        return self
