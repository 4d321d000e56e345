"""Ollama's library, with the key where it looks for one."""

import os

os.environ["OLLAMA_API_KEY"] = os.environ["SERVICE_KEY"]

import ollama

from common import *

client = ollama.Client(host=URL)
HI = [{"role": "user", "content": "hi"}]

models = [model.model for model in client.list().models]
assert MODEL in models and EMBEDDER in models, models
assert client.show(MODEL).capabilities, client.show(MODEL)

reply = client.chat(model=MODEL, messages=HI, options={"temperature": 0.5, "num_ctx": 7}, keep_alive="1h")
text = reply.message.content
assert text and reply.done and reply.done_reason == "stop" and reply.eval_count > 0, reply
assert MODEL in [model.model for model in client.ps().models]

lines = list(client.chat(model=MODEL, messages=HI, stream=True))
assert "".join(line.message.content for line in lines) == text
assert lines[-1].done and lines[-1].total_duration > 0, lines[-1]

assert client.chat(model=THINKING, messages=HI, think=True).message.thinking

tool = {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": SCHEMA}}
asked = client.chat(model=TOOLS, messages=HI, tools=[tool])
call = asked.message.tool_calls[0]
history = HI + [asked.message, {"role": "tool", "tool_name": call.function.name, "content": "sunny"}]
assert client.chat(model=MODEL, messages=history, tools=[tool]).message.content

client.chat(model=MODEL, messages=[{"role": "user", "content": "schema"}], format=SCHEMA)
client.chat(model=MODEL, messages=[{"role": "user", "content": "picture", "images": [PIXEL]}])

assert client.generate(model=MODEL, prompt="once", suffix="upon").response
assert "".join(line.response for line in client.generate(model=MODEL, prompt="once", stream=True))

vectors = client.embed(model=EMBEDDER, input=["a", "b"]).embeddings
assert len(vectors) == 2 and client.embeddings(model=EMBEDDER, prompt="a").embedding, vectors

stranger = ollama.Client(host=URL, headers={"authorization": "Bearer dsk_nothing"})
assert raises(ollama.ResponseError, lambda: stranger.list()).status_code == 401
assert raises(ollama.ResponseError, lambda: client.chat(model="nothing", messages=HI)).status_code == 404
assert raises(ollama.ResponseError, lambda: client.pull(MODEL)).status_code == 404
raises(ollama.ResponseError, lambda: list(client.chat(model=BREAKS_OFF, messages=HI, stream=True)))

slow = client.chat(model=SLOW, messages=HI, stream=True)
next(slow)
slow.close()

hasty = ollama.Client(host=LIMITED_URL, headers={"authorization": f"Bearer {LIMITED_KEY}"})
assert raises(ollama.ResponseError, lambda: [hasty.list() for _ in range(9)]).status_code == 429
