# The manifests of deploy/kubernetes: each overlay, and production with every component, rendered, held against the schemas of
# the oldest and the newest Kubernetes they are for, and judged by our own rules (scripts/check/kubernetes).
#
# Rendered by the kubectl of requirements.txt (kustomize 5). Debian 12's own is from 2020 and knows no components.
set -euo pipefail

out=$PWD/target/check-kubernetes
rm -rf "$out"
mkdir -p "$out"
cp -r deploy/kubernetes "$out/tree"

# Copied, so that what an operator keeps there is neither needed nor shown.
local_overlay=$out/tree/overlays/local
for secret in jwt_secret ops_token; do
    head -c 36 /dev/urandom | base64 >"$local_overlay/$secret"
done

mkdir "$out/tree/overlays/everything"
cat >"$out/tree/overlays/everything/kustomization.yaml" <<'END'
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../production]
components: [../../components/external-secrets, ../../components/prometheus-operator, ../../components/tracing]
END

for overlay in local production everything; do
    kubectl kustomize "$out/tree/overlays/$overlay" >"$out/$overlay.yaml" 2>"$out/$overlay.warnings"
    if [[ -s $out/$overlay.warnings ]]; then
        cat "$out/$overlay.warnings" >&2
        exit 1
    fi
done

python scripts/check/kubernetes/schemas.py 1.30 1.37 "$out/local.yaml" "$out/everything.yaml"
python scripts/check/kubernetes/policy.py "$out/local.yaml"
# The list of secrets is the component's, whoever writes them.
python scripts/check/kubernetes/policy.py "$out/production.yaml" --secrets deploy/kubernetes/components/external-secrets/secrets.yaml
python scripts/check/kubernetes/policy.py "$out/everything.yaml"
python scripts/check/kubernetes/broken.py "$out/everything.yaml"
