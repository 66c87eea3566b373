"""The pod template of a resource: rendered, overridden, checked."""

from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import Identity, Manifest
from llmserving_operator.children.merge import REASON, merge_template
from llmserving_operator.children.pod import AgentImages, build_pod_template
from llmserving_operator.children.restrictions import check_structure, check_template
from llmserving_operator.errors import RefusedError
from llmserving_operator.settings import Settings, TemplatePolicy


def render_template(owner: Identity, spec: LLMServingSpec, settings: Settings) -> Manifest:
    """The pod template, with the resource's ``template`` merged in and checked after the merge.

    Raises:
        RefusedError: a flag, a variable or the override touches what the operator owns or forbids.
    """
    images = AgentImages(
        agent=settings.agent_image,
        plugin=settings.plugin_source,
        pull_policy=settings.image_pull_policy,
        cpu=settings.agent_cpu,
        memory=settings.agent_memory,
    )
    rendered = build_pod_template(owner, spec, images, settings.shm_size, settings.drain_seconds)
    if spec.template is None:
        return rendered
    merged = merge_template(rendered, spec.template)
    check_structure(rendered, merged)
    if settings.template_policy is TemplatePolicy.RESTRICTED:
        try:
            check_template(rendered, merged, spec)
        except (AttributeError, KeyError, TypeError) as error:  # a string in the place of an object, or the like
            raise RefusedError(REASON, f"spec.template: not the shape of a pod template: {error}") from error
    return merged
