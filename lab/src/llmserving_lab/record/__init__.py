"""Recording a real run: traffic to a vLLM server, and what came back, as a folder that `validate` replays."""
