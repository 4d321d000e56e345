"""What schemathesis cannot know: who asks, and which models there are."""

import os
import threading
import urllib.parse
import uuid

import requests
import schemathesis

SERVICE = os.environ["SERVICE_URL"]
MODELS = os.environ["SERVICE_MODELS"].split(",")
PASSWORD = os.environ.get("SERVICE_PASSWORD")

# Guesses at a password are slowed down for the account they are aimed at, so these are somebody else's.
GUESSING = ["/v1/auth/me", "/v1/auth/password"]


class Caller:
    """Somebody who is signed in, and who signs in again once that session has ended."""

    def __init__(self, credentials=None):
        self.credentials = credentials
        self.token = None
        self.lock = threading.Lock()

    def authorization(self):
        with self.lock:
            if self.token is None:
                credentials = self.credentials or self.sign_up()
                reply = requests.post(f"{SERVICE}/v1/auth/login", json=credentials, timeout=30)
                reply.raise_for_status()
                self.token = reply.json()["access_token"]
            return f"Bearer {self.token}"

    def sign_up(self):
        credentials = {"email": f"{uuid.uuid4()}@example.org", "password": PASSWORD}
        requests.post(f"{SERVICE}/v1/auth/signup", json=credentials, timeout=30).raise_for_status()
        return credentials

    def replied(self, sent, status):
        with self.lock:
            if status in (204, 401) and sent == f"Bearer {self.token}":
                self.token = None


if "SERVICE_EMAIL" in os.environ:
    # A session of an administrator opens everything.
    administrator = Caller({"email": os.environ["SERVICE_EMAIL"], "password": PASSWORD})
    guesser = Caller()

    @schemathesis.auth(refresh_interval=None)
    class Session:
        def get(self, case, context):
            return (guesser if case.path in GUESSING else administrator).authorization()

        def set(self, case, data, context):
            case.headers["Authorization"] = data

    def administrate(method, path, body=None):
        headers = {"Authorization": administrator.authorization()}
        requests.request(method, f"{SERVICE}{path}", json=body, headers=headers, timeout=30)

    @schemathesis.hook
    def after_call(context, case, response):
        """What would keep others from being answered is undone at once."""
        sent = response.request.headers.get("Authorization")
        for caller in (administrator, guesser):
            caller.replied(sent, response.status_code)
        if response.status_code != 200:
            return
        operation = case.operation.definition.raw.get("operationId")
        path = urllib.parse.urlsplit(response.request.url).path
        if operation == "drainUpstream":
            administrate("POST", path.removesuffix("drain") + "resume")
        elif operation == "changeUser":
            limits = dict.fromkeys(["requests_per_minute", "tokens_per_minute", "streams", "priority"])
            administrate("PATCH", path, {"limits": limits, "models": None, "disabled": False})
            # Of the last administrator it is refused; of a second one, the first could be removed.
            administrate("PATCH", path, {"role": "user"})


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Requests for models name those that there are, or hardly anything would ever be answered; nobody is in such a hurry that a
    busy machine would rightly answer 504."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            operation["parameters"] = [one for one in operation["parameters"] if "X-Request-Timeout" not in str(one)]
    for name, schema in raw_schema["components"]["schemas"].items():
        if name.endswith(("Request", "Body")) and "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"type": "string", "enum": MODELS}
