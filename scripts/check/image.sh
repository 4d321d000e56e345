# The Dockerfile: by hadolint; by its promises (no shell, not root, exec form, pinned bases); and by laying out, from what
# .dockerignore lets through, what its first build step would see, for cargo to read.
set -euo pipefail
hadolint --failure-threshold warning Dockerfile

fail() { printf '%s\n' "Dockerfile: $*" >&2; exit 1; }
says() { grep -qE "$1" Dockerfile || fail "nothing says $2"; }
says '^USER 65534:65534$' 'who runs it'
says '^STOPSIGNAL SIGTERM$' 'how it is stopped'
says '^HEALTHCHECK .*CMD \["/usr/local/bin/deepersensor", "healthcheck"\]$' 'how it is, in exec form'
says '^ENTRYPOINT \["/usr/local/bin/deepersensor"\]$' 'what it runs, in exec form'
says '^CMD \["serve"\]$' 'what it runs by default, in exec form'
says '^ARG RUNTIME_IMAGE=gcr\.io/distroless/cc-debian12:nonroot$' 'that the runtime has no shell'
says '^ARG RUST_IMAGE=rust:1-bookworm$' 'what builds it'
says "^ARG VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)$" 'the version of Cargo.toml'
if grep -qE '^# *syntax=' Dockerfile; then fail 'needs a frontend that has to be fetched'; fi

# What the first RUN finds.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
python3 - "$tree" <<'PYTHON'
import json, pathlib, shutil, subprocess, sys

tree = pathlib.Path(sys.argv[1])
kept = [line[1:] for line in open(".dockerignore").read().split() if line.startswith("!")]
text = open("Dockerfile").read().replace("\\\n", " ")
lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
stage = lines[next(i for i, words in enumerate(lines) if words[0] == "FROM"):]

def copy(sources, target):
    for source in sources:
        if not any(source == name or source.startswith(name + "/") for name in kept):
            sys.exit(f"Dockerfile: .dockerignore keeps {source} out")
        into = target.endswith("/") and pathlib.Path(source).is_file()
        place = tree / target / pathlib.Path(source).name if into else tree / target
        place.parent.mkdir(parents=True, exist_ok=True)
        if pathlib.Path(source).is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy2(source, place)

runs = 0
for words in stage:
    if words[0] == "FROM" and words is not stage[0]:
        break
    if words[0] == "COPY":
        copy(words[1:-1], words[-1])
    if words[0] == "RUN":
        runs += 1
        # The part before cargo lays out empty sources.
        shell = " ".join(words[1:]).split("&& cargo")[0] if runs == 1 else "true"
        subprocess.run(["sh", "-euc", shell], cwd=tree, check=True)
        judge = ["cargo", "metadata", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu", "--format-version", "1"]
        seen = subprocess.run(judge, cwd=tree, capture_output=True, text=True)
        if seen.returncode:
            sys.exit(f"Dockerfile: cargo cannot read what build step {runs} sees:\n{seen.stderr}")
        targets = [target for package in json.loads(seen.stdout)["packages"] for target in package["targets"]]
        if not any(target["name"] == "deepersensor" and target["kind"] == ["bin"] for target in targets):
            sys.exit(f"Dockerfile: build step {runs} sees no program to build")
if runs != 2:
    sys.exit(f"Dockerfile: {runs} build steps, where dependencies and ours are two")
PYTHON
