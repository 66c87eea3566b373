"""The one error of this package."""

from __future__ import annotations


class ClusterError(RuntimeError):
    """Something a user can put right: the message is one plain line that says what, and how."""
