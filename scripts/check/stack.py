"""Judges the compose files, and writes each combination that docs name, as JSON, into the directory it is given.

Reads them as `docker compose` does with an empty environment: variables have their defaults, mappings are merged, lists are joined.
Prints every promise that is broken, and then fails.
"""

import ipaddress
import json
import pathlib
import re
import sys

import yaml

BASE = "compose.yml"
OVER = ["compose.gpu.yml", "compose.production.yml"]
# Who asks nobody whether it is well: one-shots, and images without a program that could.
UNASKED = {"secrets", "migrate", "otel-collector", "tempo"}
ONCE = {"secrets", "migrate"}
# What leads out of the stack; everything else is internal.
OPEN_NETWORKS = {"edge", "pull"}
VARIABLE = re.compile(r"\$\$|\$\{([A-Z_]+)(:[-+])?([^}]*)\}|\$(\w+)")
SECRET_PATH = re.compile(r"/run/secrets/([\w./-]+)")

problems: list[str] = []


def expect(true: object, what: str) -> None:
    if not true:
        problems.append(what)


class Replacement:
    """A value tagged `!override`, which is not merged with what it is laid over."""

    def __init__(self, value: object) -> None:
        self.value = value


class Loader(yaml.SafeLoader):
    pass


def override(loader: yaml.SafeLoader, node: yaml.Node) -> Replacement:
    build = loader.construct_sequence if isinstance(node, yaml.SequenceNode) else loader.construct_mapping
    return Replacement(build(node, deep=True))


Loader.add_constructor("!override", override)


def interpolate(value: object) -> object:
    if isinstance(value, Replacement):
        return Replacement(interpolate(value.value))
    if isinstance(value, dict):
        return {key: interpolate(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner) for inner in value]
    if not isinstance(value, str):
        return value

    def default(match: re.Match) -> str:
        if match[0] == "$$":
            return "$"
        name, kind = match[1] or match[4], match[2]
        allowed = name.startswith("STACK_") or name in ("API_INSTANCES", "COMPOSE_PROFILES")
        expect(allowed, f"{name} is read from the environment, where it may be a developer's own: name it STACK_…")
        expect(kind, f"{name} has no default")
        return match[3] if kind == ":-" else ""

    text = VARIABLE.sub(default, value)
    # A number or a switch that came from a variable is one.
    return yaml.safe_load(text) if text != value and re.fullmatch(r"\d+|true|false", text) else text


def merge(below: object, above: object) -> object:
    if isinstance(above, Replacement):
        return above.value
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merge(below[key], value) if key in below else plain(value) for key, value in above.items()}
    if isinstance(below, list) and isinstance(above, list):
        return below + above
    return above


def plain(value: object) -> object:
    return value.value if isinstance(value, Replacement) else value


def load(path: str) -> dict:
    return interpolate(yaml.load(pathlib.Path(path).read_text(), Loader))


def settings() -> tuple[set[str], set[str]]:
    """All names of settings, and those of secrets, which may also end in _FILE."""
    kinds = re.findall(r"^        ([A-Z][A-Z_]+) Kind::(\w+)", pathlib.Path("src/config/keys.rs").read_text(), re.M)
    expect(len(kinds) > 40, "the settings of src/config/keys.rs are not understood")
    return {name for name, _ in kinds}, {name for name, kind in kinds if kind == "Secret"}


def made_secrets() -> dict[str, set[str]]:
    """What deploy/secrets.sh says that it makes, by directory."""
    head = re.findall(r"^#   (\w+)/ +(.*)$", pathlib.Path("deploy/secrets.sh").read_text(), re.M)
    return {directory: set(re.findall(r"[a-z_]+(?:\.[a-z]+)?", names.split(",")[0])) for directory, names in head}


def mounts(service: dict) -> dict[str, str]:
    """Source by target."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return {target: source for source, target, *_ in parts}


def judge_service(name: str, service: dict, stack: dict) -> None:
    def promise(true: object, what: str) -> None:
        expect(true, f"{name} {what}")

    promise(service.get("read_only") is True, "may write to its root")
    promise(service.get("cap_drop") == ["ALL"] and not service.get("cap_add"), "has capabilities")
    promise(service.get("security_opt") == ["no-new-privileges:true"], "may gain privileges")
    promise(not service.get("privileged") and "container_name" not in service, "is privileged, or cannot be scaled")
    promise(service.get("restart") == ("no" if name in ONCE else "unless-stopped"), "is not started again as it should be")
    promise({"max-size", "max-file"} <= set(service["logging"]["options"]), "has a log without bounds")
    promise(":" in service["image"], "has an image without a tag")
    resources = service["deploy"]["resources"]
    promise({"cpus", "memory", "pids"} <= set(resources["limits"]), "has no limit of CPUs, memory or processes")
    promise({"cpus", "memory"} <= set(resources["reservations"]), "has nothing reserved")
    check = service.get("healthcheck", {})
    promise(name in UNASKED or "test" in check, "cannot be asked whether it is well")
    if name in ONCE:
        adopted = [
            other
            for other, who in stack["services"].items()
            if not who.get("profiles") and who.get("depends_on", {}).get(name, {}).get("condition") == "service_completed_successfully"
        ]
        promise(adopted, "ends and is adopted by nobody, so `up --wait` fails")
    promise(service.get("networks") or service.get("network_mode") == "none", "is on the default network")

    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith("./"):
            promise(pathlib.Path(source).exists(), f"mounts {source}, which does not exist")
            promise(mode == ["ro"], f"may write to {source} of the checkout")
        elif not source.startswith("/"):
            promise(source in stack["volumes"], f"mounts the volume {source}, which is not listed")
            promise(mode == ["ro"] or not target.startswith("/run/secrets"), f"may write to {source}")
        promise("docker.sock" not in source, "holds the engine's socket")


def judge_secrets(stack: dict) -> None:
    directory = {
        volume: target.removeprefix("/secrets/")
        for target, volume in mounts(stack["services"]["secrets"]).items()
        if target.startswith("/secrets/")
    }
    made = made_secrets()
    expect(set(directory.values()) == set(made), f"deploy/secrets.sh makes {sorted(made)}, the stack keeps {sorted(directory.values())}")
    for name, service in stack["services"].items():
        held = mounts(service)
        for secret in SECRET_PATH.findall(json.dumps([service.get("environment"), service.get("healthcheck")])):
            where = made.get(directory.get(held.get("/run/secrets"), ""), set())
            expect(secret in where, f"{name} reads /run/secrets/{secret}, which deploy/secrets.sh does not make for it")
    holders = {name for name, service in stack["services"].items() if "secrets-migrate" in mounts(service).values()}
    expect(holders == {"secrets", "migrate"}, "the owner's password is held by more than `migrate`")


def size_in_mib(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])", text).groups()
    return int(number) * {"m": 1, "g": 1024}[unit]


def judge_proxy(stack: dict) -> None:
    """Whom the instances believe, and whether the bodies of a network have room."""
    nginx = stack["services"]["nginx"]
    config = stack["networks"]["app"]["ipam"]["config"][0]
    subnet, given = ipaddress.ip_network(config["subnet"]), ipaddress.ip_network(config["ip_range"])
    address = ipaddress.ip_address(nginx["networks"]["app"]["ipv4_address"])
    trusted = stack["services"]["api"]["environment"]["TRUSTED_PROXY_IPS"]
    expect(trusted == str(address), "the instances believe somebody else than the proxy's one address")
    expect(given.subnet_of(subnet), "the addresses of the instances are not of their network")
    gateway = subnet.network_address + 1
    fits = address in subnet and address not in given and address != gateway
    expect(fits, "the proxy's address is not of the network, or somebody else may be given it")

    [cache] = [mount for mount in nginx["tmpfs"] if mount.startswith("/var/cache/nginx:")]
    chat = pathlib.Path("nginx/chat.conf").read_text()
    body = size_in_mib(re.search(r"^client_max_body_size (\w+);", chat, re.M)[1])
    bodies = int(re.search(r"^limit_conn large_bodies (\d+);", chat, re.M)[1])
    room = size_in_mib(re.search(r"size=(\w+)", cache)[1])
    expect(room >= 16 * bodies * body, "sixteen networks fill what nginx keeps large bodies in")


def judge(stack: dict) -> None:
    for name, service in stack["services"].items():
        judge_service(name, service, stack)
    judge_secrets(stack)

    known, secret = settings()
    for service in ("api", "migrate"):
        for name in stack["services"][service]["environment"]:
            is_known = name in known or name.removesuffix("_FILE") in secret
            expect(is_known, f"{service} is given {name}, which is not a setting")
            expect(name not in secret, f"{service} is given {name} itself, not a file that holds it")

    internal = {name for name, network in stack["networks"].items() if network and network.get("internal")}
    expect(internal == set(stack["networks"]) - OPEN_NETWORKS, f"only {sorted(OPEN_NETWORKS)} may lead out of the stack")
    for name in ("postgres", "redis"):
        expect(stack["services"][name]["networks"] == ["data"], f"{name} is reached from elsewhere than `data`")
    api = stack["services"]["api"]
    expect("ports" not in api, "api has a port of the machine, so it cannot be scaled")
    expect(not OPEN_NETWORKS & set(api["networks"]), "api reaches the world past the proxy")
    judge_proxy(stack)
    unit = pathlib.Path("deploy/systemd/deepersensor.service").read_text()
    expect(f"TimeoutStopSec={api['stop_grace_period'].removesuffix('s')}\n" in unit, "compose and systemd wait for different times")


def main() -> None:
    work = pathlib.Path(sys.argv[1])
    base = load(BASE)
    stacks = {BASE: base} | {path: merge(base, load(path)) for path in OVER}
    for path, stack in stacks.items():
        judge(stack)
        (work / path).with_suffix(".json").write_text(json.dumps(stack))
    production = stacks["compose.production.yml"]["services"]["api"]["environment"]
    expect(production["APP_ENV"] == "production" and production["DEMO_MODEL"] == "false", "production offers the demo model")
    for problem in dict.fromkeys(problems):
        print(f"stack: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


main()
