"""The engine's liveness probe: a hung scheduler restarts the engine, nothing else does.

The plug-in answers ``/healthz`` on the control socket, which the kubelet cannot reach by HTTP; going through the agent
would tie the engine's life to it. So a few lines of Python run inside the engine's container, where Python is anyhow.
Only an explicit 503 fails: without a plug-in, or while the socket is not there yet, the engine is left alone. So it is
where no ``python3`` is on the container's PATH: a command that cannot be started is an error of the probe, which the
kubelet tells in an Event and otherwise ignores (kubernetes/kubernetes#106682, both containerd and CRI-O).
"""

from typing import Final

from llmserving_api import names
from llmserving_operator.children.identity import Manifest

PERIOD_SECONDS: Final = 30
FAILURES: Final = 4

PROGRAM: Final = f"""\
import glob, socket, sys
for path in glob.glob("{names.PATH_CONTROL}/{names.SOCKET_PATTERN.format(rank="*")}"):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    try:
        client.connect(path)
        client.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: engine\\r\\nConnection: close\\r\\n\\r\\n")
        answer = client.makefile("rb").read()
    except OSError:
        continue
    if answer.split(b" ")[1:2] == [b"503"]:
        sys.exit(path + ": " + answer.partition(b"\\r\\n\\r\\n")[2].decode())
"""


def liveness_probe() -> Manifest:
    """The probe; it begins once the startup probe has succeeded."""
    return {
        "exec": {"command": ["python3", "-I", "-S", "-c", PROGRAM]},
        "periodSeconds": PERIOD_SECONDS,
        "timeoutSeconds": 10,
        "failureThreshold": FAILURES,
    }
