"""The service's settings as src/config/keys.rs has them: which names there are, and what each may hold."""

import ipaddress
import pathlib
import re

KEYS = pathlib.Path(__file__).parents[3] / "src/config/keys.rs"
SCALE = {"DAY": 86_400, "MIB": 1 << 20}


class Settings:
    def __init__(self, text=None):
        text = text or KEYS.read_text(encoding="utf-8")
        kind = r"Choice\(&\[[^\]]*\]\)|List\([\w:]+\)|Whole \{[^}]*\}|\w+"
        entry = re.compile(rf'^        ([A-Z][A-Z0-9_]*) Kind::({kind}),\s*"([^"]*)",', re.MULTILINE)
        self.kinds = {name: (kind, default) for name, kind, default in entry.findall(text)}
        assert len(self.kinds) > 40 and "INSTANCE_COUNT" in self.kinds, "the table of settings reads otherwise than it did"

    def default(self, name):
        return self.kinds[name][1]

    def is_secret(self, name):
        return name in self.kinds and self.kinds[name][0] == "Secret"

    def names_a_file(self, name):
        return name.endswith("_FILE") and self.is_secret(name.removesuffix("_FILE"))

    def problem(self, name, value):
        """What is wrong with a setting that stands in a manifest, if anything."""
        if self.names_a_file(name):
            return None if value.startswith("/") else "is no absolute path"
        if name not in self.kinds:
            return "is not a setting of the service"
        kind = self.kinds[name][0]
        if kind == "Secret":
            return "is a secret in plain sight"
        if kind == "Switch" and value not in ("true", "false"):
            return f"{value!r} is neither true nor false"
        if kind.startswith("Choice") and value not in re.findall(r'"([^"]*)"', kind):
            return f"{value!r} is none of its choices"
        if kind.startswith("Whole"):
            low, high = (whole(re.search(rf"{end}: ([^,}}]+)", kind).group(1)) for end in ("min", "max"))
            if not value.isdigit() or not low <= int(value) <= high:
                return f"{value!r} is no whole number from {low} to {high}"
        if kind in ("Address", "Socket", "List(Item::Network)"):
            try:
                for item in value.split(","):
                    ipaddress.ip_network(item.rsplit(":", 1)[0] if kind == "Socket" else item.strip())
            except ValueError as error:
                return str(error)
        return None


def whole(text):
    """A number as Rust writes it here: `65_535`, `365 * DAY`, `1 << 40`."""
    for name, value in SCALE.items():
        text = text.replace(name, str(value))
    parts = [int(part.replace("_", "")) for part in re.split(r"\*|<<", text)]
    if len(parts) == 1:
        return parts[0]
    return parts[0] * parts[1] if "*" in text else parts[0] << parts[1]
