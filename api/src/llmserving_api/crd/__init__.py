"""The CustomResourceDefinition, generated from the models of ``llmserving_api.v1alpha1``."""

from llmserving_api.crd.definition import custom_resource_definition
from llmserving_api.crd.structural import UnsupportedSchemaError, structural_schema

__all__ = ["UnsupportedSchemaError", "custom_resource_definition", "structural_schema"]
