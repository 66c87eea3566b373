"""Who may reach the engine: the peers of a NetworkPolicy, bounded and typed."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmserving_api.v1alpha1.fields import Model
from llmserving_api.v1alpha1.rules import Form, Rule

LabelKey = Annotated[str, Field(max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]
CIDR = Annotated[
    str, Field(min_length=4, max_length=49), Form("[0-9a-fA-F.:]+/[0-9]{1,3}", "write a range such as 10.0.0.0/8")
]


class LabelRequirement(Model):
    """A requirement on one label."""

    key: Annotated[LabelKey, Field(min_length=1, description="key of the label.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"], Field(description="operator between the label and values.")
    ]
    values: Annotated[list[LabelValue] | None, Field(max_length=32, description="values for In and NotIn.")] = None


class LabelSelector(Model):
    """A label selector; an empty one selects everything."""

    match_labels: Annotated[
        dict[str, LabelValue] | None, Field(max_length=32, description="matchLabels: labels and their values.")
    ] = None
    match_expressions: Annotated[
        list[LabelRequirement] | None, Field(max_length=32, description="matchExpressions: further requirements.")
    ] = None


class IPBlock(Model):
    """A range of addresses."""

    cidr: Annotated[CIDR, Field(description="cidr such as 10.0.0.0/8.")]
    except_: Annotated[
        list[CIDR] | None, Field(alias="except", max_length=32, description="except: ranges within cidr left out.")
    ] = None


class NetworkPolicyPeer(Model):
    """Pods (podSelector, namespaceSelector) or addresses (ipBlock), as in a NetworkPolicy."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.ipBlock) ? !has(self.podSelector) && !has(self.namespaceSelector) : "
            "has(self.podSelector) || has(self.namespaceSelector)",
            "write podSelector, namespaceSelector or both; or ipBlock alone",
        ),
    )

    pod_selector: Annotated[LabelSelector | None, Field(description="podSelector: pods by label.")] = None
    namespace_selector: Annotated[
        LabelSelector | None, Field(description="namespaceSelector: namespaces by label; the own one when absent.")
    ] = None
    ip_block: Annotated[IPBlock | None, Field(description="ipBlock: a range of addresses.")] = None

    @model_validator(mode="after")
    def _pods_or_addresses(self) -> Self:
        pods = self.pod_selector is not None or self.namespace_selector is not None
        if pods == (self.ip_block is not None):
            raise ValueError(self.rules[0].message)
        return self


class NetworkPolicySpec(Model):
    """Who may reach the engine's port."""

    allow_from: Annotated[
        list[NetworkPolicyPeer] | None,
        Field(max_length=32, description="allowFrom lists the peers; everybody when absent, nobody when empty."),
    ] = None
