"""The identity of the pods: an account without a token and without rights."""

from llmserving_operator.children.identity import Identity, Manifest, metadata


def build_service_account(owner: Identity) -> Manifest:
    """A ServiceAccount that no pod gets a token of."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(owner, owner.name),
        "automountServiceAccountToken": False,
    }
