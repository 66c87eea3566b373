"""Errors of the operator.

OperatorError
├── SettingsError          the process cannot start
├── PartEndedError         the watches, the queue or the poller ended; the process must begin anew
├── GoneError              the resource is not there any more; a watch has missed its deletion
├── RefusedError           a valid resource that cannot be served; becomes a condition
└── KubeError              a call to the API server failed
    ├── NotFoundError      there is no such object
    ├── RejectedError      it will not succeed without a change (400, 403, 422)
    └── ConflictError      the object is another one than was seen
"""


class OperatorError(Exception):
    """Root of the operator's errors."""


class SettingsError(OperatorError):
    """The process's configuration is wrong."""


class PartEndedError(OperatorError):
    """The watches, the queue or the poller ended, for example because the CRD was deleted."""


class GoneError(OperatorError):
    """A resource that the watches show is not there.

    Attributes:
        uid: of the resource.
    """

    def __init__(self, uid: str) -> None:
        super().__init__(f"the LLMServing with uid {uid} is gone")
        self.uid = uid


class RefusedError(OperatorError):
    """The resource asks for something the operator does not do.

    Attributes:
        reason: the condition's reason, one word.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KubeError(OperatorError):
    """A call to the Kubernetes API failed.

    Attributes:
        status: the HTTP status, 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(KubeError):
    """There is no such object."""


class RejectedError(KubeError):
    """The API server will not accept this request without a change."""


class ConflictError(KubeError):
    """The object is another one than was seen."""
