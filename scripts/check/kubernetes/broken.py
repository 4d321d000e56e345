"""Breaks rendered manifests in one place at a time, and wants policy.py to say so: broken.py FILE

Each case: which manifest, the way to the place, what is put there (or GONE), and words of the complaint.
"""

import copy
import sys

from policy import Manifests, read

GONE = object()
API, JOB = "Deployment/deepersensor", "Job/deepersensor-migrate"
POD = ("spec", "template", "spec")
BOX = (*POD, "containers", 0)
HOST_PATH = {"name": "data", "hostPath": {"path": "/"}}
ANNOTATION = "nginx.ingress.kubernetes.io"

CASES = [
    (API, (*POD, "securityContext", "runAsNonRoot"), False, "runAsNonRoot is not True"),
    (API, (*POD, "securityContext", "seccompProfile"), GONE, "seccompProfile is not"),
    (API, (*POD, "securityContext", "runAsUser"), 0, "runAsUser is not 65534"),
    (JOB, (*POD, "automountServiceAccountToken"), GONE, "a token of the cluster"),
    (API, (*POD, "hostNetwork"), True, "has hostNetwork"),
    (API, (*POD, "serviceAccountName"), "root", "runs as root, which is not there"),
    (API, (*BOX, "image"), "registry.example.org/deepersensor:latest", "may be another one tomorrow"),
    (API, (*BOX, "image"), "localhost:5000/deepersensor", "may be another one tomorrow"),
    (JOB, (*BOX, "image"), "registry.example.org/deepersensor:0.0.9", "are not of one release"),
    (API, (*BOX, "securityContext", "readOnlyRootFilesystem"), GONE, "may write to its root"),
    (JOB, (*BOX, "securityContext", "allowPrivilegeEscalation"), GONE, "gain privileges"),
    (API, (*BOX, "securityContext", "capabilities", "add"), ["NET_ADMIN"], "keeps capabilities"),
    (JOB, (*BOX, "resources", "limits", "memory"), GONE, "has no limits of both"),
    (API, (*BOX, "livenessProbe", "httpGet", "path"), "/readyz", "livenessProbe does not ask /healthz"),
    (API, (*BOX, "startupProbe"), GONE, "startupProbe does not ask"),
    (API, (*BOX, "readinessProbe", "httpGet", "port"), "web", "readinessProbe does not ask"),
    (API, (*BOX, "envFrom", 0, "configMapRef", "name"), "deepersensor", "which is no ConfigMap here"),
    (API, (*BOX, "env"), [{"name": "JWT_SECRET", "value": "canary"}], "JWT_SECRET is a secret in plain sight"),
    (API, (*BOX, "env"), [{"name": "X", "valueFrom": {"secretKeyRef": {}}}], "give secrets as files"),
    (API, (*BOX, "env"), [{"name": "MAX_INFLIGHT", "value": "1"}], "MAX_INFLIGHT is not a setting"),
    (API, (*BOX, "env"), [{"name": "APP_ENV", "value": "prod"}], "is none of its choices"),
    (API, (*BOX, "env"), [{"name": "MODEL_QUEUE_LIMIT", "value": "0"}], "no whole number from 1 to 100000"),
    (API, (*BOX, "env"), [{"name": "TRUSTED_PROXY_IPS", "value": "10.0.0.0/8,pods"}], "TRUSTED_PROXY_IPS 'pods'"),
    (API, (*BOX, "env"), [{"name": "JWT_SECRET_FILE", "value": "/run/secrets/jwt"}], "which no volume brings"),
    (API, (*BOX, "env"), [{"name": "INSTANCE_COUNT", "value": "3"}], "INSTANCE_COUNT is 3 with 2 instances"),
    (API, (*BOX, "env"), [{"name": "OLLAMA_NUM_PARALLEL", "value": "5"}], "do not divide by 2"),
    (API, (*BOX, "env"), [{"name": "SHUTDOWN_GRACE_SECS", "value": "60"}], "before the 70 s of its stop"),
    (API, (*BOX, "env"), [{"name": "MIGRATE_DATABASE_URL_FILE", "value": "/run/secrets/x"}], "the schema's owner"),
    (API, (*BOX, "env"), [{"name": "APP_PORT", "value": "9090"}], "port http is not 9090"),
    (API, (*BOX, "lifecycle"), GONE, "stops before balancers know"),
    (API, (*POD, "terminationGracePeriodSeconds"), 30, "before the 40 s of its stop"),
    (API, (*POD, "volumes", 0, "secret", "secretName"), "secrets", "mounts secrets/database_url, which is not there"),
    (API, (*POD, "volumes", 0, "secret", "defaultMode"), 0o444, "opened by more than their group"),
    (API, (*POD, "volumes", 1), HOST_PATH, "a directory of the node"),
    (API, (*POD, "volumes", 1), {"name": "data", "persistentVolumeClaim": {"claimName": "x"}}, "the claim x"),
    (API, (*BOX, "volumeMounts", 1), GONE, "has the volumes"),
    (API, ("spec", "replicas"), 2, "is undone by every apply"),
    (API, ("metadata", "namespace"), "default", "in no namespace that enforces"),
    ("Namespace/deepersensor", ("metadata", "labels", "pod-security.kubernetes.io/enforce"), "baseline", "in no namespace"),
    ("Service/deepersensor", ("spec", "selector", "app.kubernetes.io/component"), "web", "selects no pod"),
    ("Service/deepersensor", ("spec", "ports", 0, "targetPort"), 8081, "leads to a port 8081"),
    ("PodDisruptionBudget/deepersensor", ("spec", "selector", "matchLabels"), {"app": "x"}, "selects no pod"),
    ("NetworkPolicy/default-deny", ("spec", "policyTypes"), ["Ingress"], "none denies"),
    ("NetworkPolicy/to-redis", ("spec", "egress", 0, "to"), GONE, "names not both its to and its ports"),
    ("NetworkPolicy/to-redis", ("spec", "egress", 0, "to", 0), {"ipBlock": {"cidr": "0.0.0.0/0"}}, "the whole world"),
    ("NetworkPolicy/from-ingress", ("spec", "ingress", 0, "from", 0), {"namespaceSelector": {}}, "the whole world"),
    ("NetworkPolicy/from-ingress", ("spec", "ingress", 0, "ports", 0, "port"), "web", "opens a port web"),
    ("NetworkPolicy/to-dns", ("spec", "podSelector", "matchLabels"), {"app": "x"}, "selects no pod"),
    ("HorizontalPodAutoscaler/deepersensor", ("spec", "maxReplicas"), 5, "more than double"),
    ("HorizontalPodAutoscaler/deepersensor", ("spec", "scaleTargetRef", "name"), "api", "which is not there"),
    ("Ingress/deepersensor", ("spec", "tls", 0, "hosts", 0), "example.net", "without TLS"),
    ("Ingress/deepersensor", ("metadata", "annotations", f"{ANNOTATION}/proxy-buffering"), GONE, "holds streams back"),
    ("Ingress/deepersensor", ("metadata", "annotations", f"{ANNOTATION}/proxy-read-timeout"), "600", "gives up before"),
    ("Ingress/deepersensor", ("metadata", "annotations", f"{ANNOTATION}/proxy-body-size"), "8m", "another size of body"),
    ("Ingress/deepersensor", ("metadata", "annotations", f"{ANNOTATION}/proxy-next-upstream"), "error timeout", "two instances"),
    ("Ingress/deepersensor-admin", ("metadata", "annotations", f"{ANNOTATION}/whitelist-source-range"), GONE, "/v1/admin is open"),
    ("Ingress/deepersensor", ("spec", "rules", 0, "http", "paths", 0, "backend", "service", "name"), "api", "api:http, which"),
    ("ServiceMonitor/deepersensor", ("spec", "endpoints", 0, "port"), "http", "reads a port http"),
    ("ServiceMonitor/deepersensor", ("spec", "selector", "matchLabels"), {"app": "x"}, "selects no service"),
    ("ServiceMonitor/deepersensor", ("spec", "endpoints", 0, "authorization", "credentials", "key"), "token", "reads deepersensor/token"),
    ("ExternalSecret/deepersensor-migrate", ("spec", "data"), [], "mounts deepersensor-migrate/migrate_database_url"),
]


def put(place, way, value):
    for step in way[:-1]:
        place = place[step]
    if value is GONE:
        del place[way[-1]]
    else:
        place[way[-1]] = value


def main(path):
    whole = read(path)
    silent = []
    for name, way, value, words in CASES:
        documents = copy.deepcopy(whole)
        chosen = [d for d in documents if f"{d['kind']}/{d['metadata']['name']}" == name]
        put(chosen[0], way, value)
        told = Manifests(documents).judge()
        if not any(words in line for line in told):
            silent.append(f"{name} {way} = {value!r}: nobody said {words!r}, but {told}")
    print("\n".join(silent) or f"{len(CASES)} ways to break them are noticed")
    return bool(silent)


sys.exit(main(sys.argv[1]))
