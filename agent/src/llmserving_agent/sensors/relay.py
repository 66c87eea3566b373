"""GPU facts relayed by the plug-in (``GET /v1/device``): the engine's container always sees its own GPUs."""

from llmserving_agent.actuator import ControlClient, EngineRefusedError, EngineUnreachableError
from llmserving_api.control import DeviceMemory


class Relay:
    """The engine's own report, refreshed by the runner.

    Attributes:
        devices: GPUs the engine sees, as last reported.
        reason: Why there are none.
    """

    def __init__(self) -> None:
        self.devices: tuple[DeviceMemory, ...] = ()
        self.reason = "relay: the engine has not answered yet"

    async def refresh(self, client: ControlClient, ranks: tuple[int, ...]) -> None:
        """Ask every rank; GPUs that several of them see are taken once."""
        devices: dict[str, DeviceMemory] = {}
        reasons = []
        for rank in ranks:
            try:
                report = await client.device(rank)
            except (EngineUnreachableError, EngineRefusedError) as error:
                reasons.append(str(error))
                continue
            devices.update({device.uuid: device for device in report.devices})
            if report.reason:
                reasons.append(report.reason)
        self.devices = tuple(devices.values())
        if not ranks:
            reasons.append("no engine yet")
        self.reason = (
            "" if self.devices else f"relay: {'; '.join(dict.fromkeys(reasons)) or 'the engine reports no GPU'}"
        )
