# The compose files: by their schema, alone and laid over each other; and by the promises of stack.py, which also judges the names of
# settings and secrets.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/check/stack.py "$work"
check-jsonschema --builtin-schema vendor.compose-spec "$work"/*.json
