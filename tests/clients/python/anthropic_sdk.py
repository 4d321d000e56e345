"""Anthropic's library."""

import anthropic

from common import *

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
HI = [{"role": "user", "content": "hi"}]

reply = client.messages.create(model=MODEL, max_tokens=50, messages=HI, system="be brief")
text = reply.content[0].text
assert text and reply.stop_reason == "end_turn" and reply.usage.output_tokens > 0, reply
assert reply._request_id, reply

with client.messages.stream(model=MODEL, max_tokens=50, messages=HI, system="be brief") as stream:
    assert "".join(stream.text_stream) == text
    assert stream.get_final_message().stop_reason == "end_turn"

thinking = {"type": "enabled", "budget_tokens": 1024}
thought = client.messages.create(model=THINKING, max_tokens=2048, messages=HI, thinking=thinking)
assert thought.content[0].type == "thinking" and thought.content[0].thinking, thought

tool = {"name": "get_weather", "description": "d", "input_schema": SCHEMA}
asked = client.messages.create(model=TOOLS, max_tokens=50, messages=HI, tools=[tool])
call = next(block for block in asked.content if block.type == "tool_use")
assert asked.stop_reason == "tool_use" and call.id and isinstance(call.input, dict), asked
history = HI + [
    {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in asked.content]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
]
assert client.messages.create(model=MODEL, max_tokens=50, messages=history, tools=[tool]).content[0].text
with client.messages.stream(model=TOOLS, max_tokens=50, messages=HI, tools=[tool]) as stream:
    streamed = next(block for block in stream.get_final_message().content if block.type == "tool_use")
assert streamed.input == call.input, streamed

picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
content = [{"type": "text", "text": "picture"}, picture]
client.messages.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": content}])

assert client.messages.count_tokens(model=MODEL, messages=HI).input_tokens > 0

stranger = anthropic.Anthropic(base_url=URL, api_key="dsk_nothing", max_retries=0)
raises(anthropic.AuthenticationError, lambda: stranger.messages.create(model=MODEL, max_tokens=5, messages=HI))
raises(anthropic.NotFoundError, lambda: client.messages.create(model="nothing", max_tokens=5, messages=HI))
raises(anthropic.BadRequestError, lambda: client.messages.create(model=MODEL, max_tokens=0, messages=HI))


def until_it_breaks_off():
    with client.messages.stream(model=BREAKS_OFF, max_tokens=50, messages=HI) as stream:
        list(stream.text_stream)


raises(anthropic.APIStatusError, until_it_breaks_off)

with client.messages.stream(model=SLOW, max_tokens=50, messages=HI) as stream:
    next(iter(stream.text_stream))

hasty = anthropic.Anthropic(base_url=LIMITED_URL, api_key=LIMITED_KEY, max_retries=0)
limited = raises(
    anthropic.RateLimitError,
    lambda: [hasty.messages.count_tokens(model=MODEL, messages=HI) for _ in range(9)],
)
assert int(limited.response.headers["retry-after"]) >= 1, limited.response.headers
patient = anthropic.Anthropic(base_url=LIMITED_URL, api_key=LIMITED_KEY, max_retries=5)
for _ in range(3):
    patient.messages.count_tokens(model=MODEL, messages=HI)
