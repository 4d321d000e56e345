# The public repository's workflows and dependabot's list: by their schemas, and by zizmor for what an attacker could do with
# them. Every action is pinned by hash.
set -euo pipefail
check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
zizmor --offline --quiet --no-progress .github
if grep -nE 'uses: ' .github/workflows/*.yml | grep -vE '@[0-9a-f]{40} # v[0-9.]+$'; then
    echo 'workflows: these actions are not pinned by hash and version' >&2
    exit 1
fi
