"""LangChain, over OpenAI's and over Ollama's library."""

import os

os.environ["OLLAMA_API_KEY"] = os.environ["SERVICE_KEY"]

from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from common import *


@tool
def get_weather(city: str) -> str:
    """Tells the weather."""
    return "sunny"


def chats(model_of):
    model = model_of(MODEL)
    text = model.invoke("hi").text
    assert text
    assert "".join(chunk.text for chunk in model.stream("hi")) == text
    asked = model_of(TOOLS).bind_tools([get_weather]).invoke("hi")
    assert asked.tool_calls and isinstance(asked.tool_calls[0]["args"], dict), asked
    picture = [
        {"type": "text", "text": "picture"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    assert model.invoke([{"role": "user", "content": picture}]).content
    raises(Exception, lambda: model_of("nothing").invoke("hi"))
    raises(Exception, lambda: list(model_of(BREAKS_OFF).stream("hi")))


chats(lambda name: ChatOpenAI(base_url=f"{URL}/v1", api_key=KEY, model=name, max_retries=0))
chats(lambda name: ChatOpenAI(base_url=f"{URL}/v1", api_key=KEY, model=name, max_retries=0, use_responses_api=True))
chats(lambda name: ChatOllama(base_url=URL, model=name))

vectors = OpenAIEmbeddings(
    base_url=f"{URL}/v1", api_key=KEY, model=EMBEDDER, check_embedding_ctx_length=False
).embed_documents(["a", "b"])
assert len(vectors) == 2
same = OllamaEmbeddings(base_url=URL, model=EMBEDDER).embed_documents(["a", "b"])
assert all(abs(a - b) < 1e-6 for one, other in zip(vectors, same) for a, b in zip(one, other)), (vectors, same)
tokens = OpenAIEmbeddings(base_url=f"{URL}/v1", api_key=KEY, model=EMBEDDER, tiktoken_enabled=False, max_retries=0)
assert tokens.model == EMBEDDER
