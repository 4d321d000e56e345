"""OpenAI's library."""

import openai

from common import *

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
HI = [{"role": "user", "content": "hi"}]

# List.
models = [model.id for model in client.models.list()]
assert MODEL in models and EMBEDDER in models, models
assert client.models.retrieve(MODEL).id == MODEL

# Chat, whole.
reply = client.chat.completions.create(model=MODEL, messages=HI, temperature=0.5, max_completion_tokens=50)
text = reply.choices[0].message.content
assert text and reply.choices[0].finish_reason == "stop", reply
assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0, reply
raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
assert int(raw.headers["openai-processing-ms"]) >= 0 and raw.headers["x-request-id"], raw.headers
assert raw.headers["x-ratelimit-limit-requests"] and raw.headers["x-ratelimit-remaining-requests"], raw.headers

# Chat, streamed.
chunks = list(
    client.chat.completions.create(model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True})
)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
assert chunks[-1].usage.completion_tokens > 0 and len({chunk.id for chunk in chunks}) == 1, chunks[-1]

# Thinking.
thought = client.chat.completions.create(model=THINKING, messages=HI, reasoning_effort="high")
assert thought.choices[0].message.reasoning_content, thought

# A round trip of a tool.
tool = {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": SCHEMA}}
asked = client.chat.completions.create(model=TOOLS, messages=HI, tools=[tool], tool_choice="auto")
call = asked.choices[0].message.tool_calls[0]
assert asked.choices[0].finish_reason == "tool_calls" and call.id and call.function.name, asked
history = HI + [
    asked.choices[0].message.model_dump(exclude_none=True),
    {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
]
assert client.chat.completions.create(model=MODEL, messages=history, tools=[tool]).choices[0].message.content
streamed = client.chat.completions.create(model=TOOLS, messages=HI, tools=[tool], stream=True)
calls = [call for chunk in streamed if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
assert calls[0].function.name == call.function.name and calls[0].function.arguments == call.function.arguments, calls

# Responses: whole, as events, and gone on from.
response = client.responses.create(model=MODEL, input="hi", instructions="be brief", max_output_tokens=50, store=True)
assert response.output_text == text and response.status == "completed", response
assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0, response
events = list(client.responses.create(model=MODEL, input="hi", stream=True))
assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text, events
assert events[-1].type == "response.completed" and events[-1].response.output_text == text, events[-1]
assert [event.sequence_number for event in events] == list(range(len(events))), events
with client.responses.stream(model=MODEL, input=HI) as streaming:
    assert streaming.get_final_response().output_text == text
more = client.responses.create(model=MODEL, input="and more", previous_response_id=response.id)
assert more.output_text and more.previous_response_id == response.id, more
raises(openai.NotFoundError, lambda: client.responses.create(model=MODEL, input="x", previous_response_id="resp_" + "0" * 32))
thought = client.responses.create(model=THINKING, input="hi", reasoning={"effort": "high"})
assert thought.output[0].type == "reasoning" and thought.output[0].summary[0].text, thought

# A round trip of a function.
flat = {"type": "function", "name": "get_weather", "description": "d", "parameters": SCHEMA, "strict": False}
asked = client.responses.create(model=TOOLS, input=HI, tools=[flat])
called = [item for item in asked.output if item.type == "function_call"][0]
assert called.name == call.function.name and called.call_id and called.arguments, asked
items = HI + asked.output + [{"type": "function_call_output", "call_id": called.call_id, "output": "sunny"}]
assert client.responses.create(model=MODEL, input=items, tools=[flat]).output_text
with client.responses.stream(model=TOOLS, input=HI, tools=[flat]) as streaming:
    assert [item for item in streaming.get_final_response().output if item.type == "function_call"][0].name == called.name
client.responses.create(
    model=MODEL,
    input="response schema",
    text={"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}},
)
parts = [
    {"type": "input_text", "text": "response picture"},
    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
]
client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])

# A schema and a picture; what became of them the fake server is asked afterwards.
client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "schema"}],
    response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
)
parts = [
    {"type": "text", "text": "picture"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
]
client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])

# The older completions.
assert client.completions.create(model=MODEL, prompt="once", max_tokens=9).choices[0].text
assert "".join(part.choices[0].text for part in client.completions.create(model=MODEL, prompt="once", stream=True))

# Vectors: in base64, which the library asks for by itself, and as numbers.
packed = client.embeddings.create(model=EMBEDDER, input=["a", "b"])
plain = client.embeddings.create(model=EMBEDDER, input=["a", "b"], encoding_format="float")
assert len(packed.data) == 2 and packed.data[0].embedding, packed
for one, other in zip(packed.data, plain.data):
    assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding)), (packed, plain)
assert packed.usage.prompt_tokens > 0, packed.usage

# Errors.
stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="dsk_nothing", max_retries=0)
raises(openai.AuthenticationError, lambda: stranger.models.list())
missing = raises(openai.NotFoundError, lambda: client.chat.completions.create(model="nothing", messages=HI))
assert missing.code == "model_not_found" and missing.param == "model", missing.body
remote = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]}]
raises(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=remote))
failing = client.chat.completions.create(model=BREAKS_OFF, messages=HI, stream=True)
raises(openai.APIError, lambda: list(failing))
raises(openai.APIStatusError, lambda: client.chat.completions.create(model=BREAKS_OFF, messages=HI))
broken = []
told = raises(openai.APIError, lambda: broken.extend(client.responses.create(model=BREAKS_OFF, input="hi", stream=True)))
assert told.code == "upstream_incomplete", told.body
raises(openai.APIStatusError, lambda: client.responses.create(model=BREAKS_OFF, input="hi"))

# Leaving in the middle of an answer.
slow = client.chat.completions.create(model=SLOW, messages=HI, stream=True)
next(iter(slow))
slow.close()

# Too many requests: told at once, or waited out as long as the service says.
hasty = openai.OpenAI(base_url=f"{LIMITED_URL}/v1", api_key=LIMITED_KEY, max_retries=0)
limited = raises(openai.RateLimitError, lambda: [hasty.models.list() for _ in range(9)])
assert int(limited.response.headers["retry-after"]) >= 1, limited.response.headers
patient = openai.OpenAI(base_url=f"{LIMITED_URL}/v1", api_key=LIMITED_KEY, max_retries=5)
for _ in range(3):
    patient.models.list()
