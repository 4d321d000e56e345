"""What every client is told by its environment, and what they look at."""

import os

URL = os.environ["SERVICE_URL"]
KEY = os.environ["SERVICE_KEY"]
# A service that lets two requests through at once and then one a second, and a key of it.
LIMITED_URL = os.environ["LIMITED_URL"]
LIMITED_KEY = os.environ["LIMITED_KEY"]

MODEL = "qwen3:8b"
EMBEDDER = "nomic-embed-text:latest"
# Models of the fake server by what happens to those who ask them.
TOOLS = "fake-tools-last:latest"
THINKING = "fake-thinking:latest"
BREAKS_OFF = "fake-no-done:latest"
SLOW = "slow:latest"

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def raises(kind, ask):
    """The error that `ask` ends with, which must be of this kind."""
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
