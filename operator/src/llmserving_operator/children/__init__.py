"""Pure builders of the objects that belong to a resource: plain arguments in, plain manifests out."""
