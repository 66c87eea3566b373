"""The remembered pod template: an upgrade of the operator restarts no GPU.

A ControllerRevision holds the template that the pods run and the digest of what the user asked for when it was
rendered. As long as the digest stays, the remembered template is used as it is, whatever the present operator would
render; a restart-relevant edit, or ``rollout.sidecarUpgrade: Rolling``, renders it anew.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmserving_api import names
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import Identity, Manifest, metadata

ANNOTATION_SPEC_DIGEST: Final = f"{names.GROUP}/spec-digest"
"""Of the restart-relevant fields that the template was rendered from."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A remembered template."""

    name: str
    number: int
    spec_digest: str
    template: Manifest


def digest(document: Any) -> str:
    """Short stable digest of a JSON document."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def spec_digest(spec: LLMServingSpec) -> str:
    """Digest of the fields whose edit restarts pods: model, engine, template override and the ceilings that are named.

    Fields at their defaults are left out, so that a default new in a later version changes no digest.
    """
    return digest(
        {
            "model": spec.model.model_dump(mode="json", exclude_defaults=True),
            "engine": spec.engine.model_dump(mode="json", exclude_defaults=True),
            "template": spec.template,
            "maxNumSeqs": spec.batching.max_num_seqs.max,
            "maxNumBatchedTokens": spec.batching.max_num_batched_tokens.max,
        }
    )


def read_revision(manifest: Manifest) -> Revision:
    """A revision from its ControllerRevision."""
    meta = manifest["metadata"]
    return Revision(
        name=meta["name"],
        number=manifest["revision"],
        spec_digest=meta.get("annotations", {}).get(ANNOTATION_SPEC_DIGEST, ""),
        template=manifest["data"]["template"],
    )


def newest(revisions: Sequence[Revision]) -> Revision | None:
    """The revision in force."""
    return max(revisions, key=lambda revision: revision.number, default=None)


def next_revision(owner: Identity, spec: LLMServingSpec, template: Manifest, current: Revision | None) -> Revision:
    """The revision that follows ``current``; named by its content, so that a repeated attempt makes no second one."""
    return Revision(
        name=f"{owner.name}-{digest(template)}",
        number=current.number + 1 if current else 1,
        spec_digest=spec_digest(spec),
        template=template,
    )


def build_revision(owner: Identity, revision: Revision) -> Manifest:
    """The ControllerRevision of a remembered template."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(owner, revision.name, {ANNOTATION_SPEC_DIGEST: revision.spec_digest}),
        "revision": revision.number,
        "data": {"template": revision.template},
    }
