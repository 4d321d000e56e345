"""Judges rendered manifests by our own rules: policy.py FILE [--secrets FILE]

Every pod is hardened and bounded, every reference leads somewhere, nothing is reachable that was not meant to be, and what
stands in two places says the same in both. `--secrets` names ExternalSecrets that stand for those made outside.
"""

import argparse
import collections
import re
import sys

import yaml

from settings import Settings

LONG_LIVED = {"Deployment", "StatefulSet", "DaemonSet"}
USER = 65534
# What a stop takes beyond SHUTDOWN_GRACE_SECS.
STOP_AFTER_GRACE = 5


class Manifests:
    def __init__(self, documents, outside=()):
        self.problems = []
        self.settings = Settings()
        self.all = documents
        self.by_kind = collections.defaultdict(list)
        for document in documents:
            self.by_kind[document["kind"]].append(document)
        self.pods = [Pod(self, owner) for kind in (*LONG_LIVED, "Job") for owner in self.by_kind[kind]]
        self.secrets = {secret["metadata"]["name"]: set(secret.get("data", {})) for secret in self.by_kind["Secret"]}
        for written in [*self.by_kind["ExternalSecret"], *outside]:
            self.secrets[written["spec"]["target"]["name"]] = {item["secretKey"] for item in written["spec"]["data"]}

    def tell(self, where, what):
        place = where if isinstance(where, str) else f"{where['kind']}/{where['metadata']['name']}"
        self.problems.append(f"{place}: {what}")

    def judge(self):
        self.namespaces()
        for pod in self.pods:
            pod.judge()
        for service in self.by_kind["Service"]:
            self.service(service)
        for budget in self.by_kind["PodDisruptionBudget"]:
            self.selects(budget, budget["spec"]["selector"])
        self.policies()
        for scaler in self.by_kind["HorizontalPodAutoscaler"]:
            self.autoscaler(scaler)
        self.ways_in()
        for monitor in self.by_kind["ServiceMonitor"]:
            self.monitor(monitor)
        self.release()
        return self.problems

    def namespaces(self):
        held = {
            space["metadata"]["name"]: space["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
            for space in self.by_kind["Namespace"]
        }
        for document in self.all:
            if document["kind"] != "Namespace" and held.get(document["metadata"].get("namespace")) != "restricted":
                self.tell(document, "is in no namespace that enforces the restricted standard")

    def matching(self, selector):
        wanted = selector.get("matchLabels", selector)
        return [pod for pod in self.pods if wanted.items() <= pod.labels.items()]

    def selects(self, document, selector):
        found = self.matching(selector)
        if not found:
            self.tell(document, f"selects no pod by {selector}")
        return found

    def service(self, service):
        for pod in self.selects(service, service["spec"]["selector"]):
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in pod.ports and port["targetPort"] not in pod.ports.values():
                    self.tell(service, f"leads to a port {port['targetPort']} that no container has")

    def policies(self):
        policies = self.by_kind["NetworkPolicy"]
        closed = [p for p in policies if p["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
        if not closed:
            self.tell("NetworkPolicy", "none denies what is not allowed")
        for policy in policies:
            spec = policy["spec"]
            pods = self.matching(spec["podSelector"]) if spec["podSelector"] else self.pods
            if not pods:
                self.tell(policy, f"selects no pod by {spec['podSelector']}")
            for direction, peers in (("ingress", "from"), ("egress", "to")):
                for rule in spec.get(direction, []):
                    self.rule(policy, rule, peers, pods if direction == "ingress" else [])

    def rule(self, policy, rule, peers, pods):
        if not rule.get(peers) or not rule.get("ports"):
            self.tell(policy, f"has a rule that names not both its {peers} and its ports")
        for peer in rule.get(peers, []):
            if peer.get("ipBlock", {}).get("cidr") in ("0.0.0.0/0", "::/0") or not any(peer.values()):
                self.tell(policy, "opens a way for the whole world")
        for port in rule.get("ports", []):
            for pod in pods:
                if port.get("port") not in pod.ports and port.get("port") not in pod.ports.values():
                    self.tell(policy, f"opens a port {port.get('port')} that no container has")

    def autoscaler(self, scaler):
        spec, target = scaler["spec"], scaler["spec"]["scaleTargetRef"]
        pods = [p for p in self.pods if (p.owner["kind"], p.owner["metadata"]["name"]) == (target["kind"], target["name"])]
        if not pods:
            self.tell(scaler, f"scales {target['kind']}/{target['name']}, which is not there")
        if spec["maxReplicas"] > 2 * spec["minReplicas"]:
            self.tell(scaler, "may more than double the instances, and with them the turns sent to the model server")
        for pod in pods:
            if "replicas" in pod.owner["spec"]:
                self.tell(scaler, "is undone by every apply: its target has `replicas`")
            self.count(pod, spec["minReplicas"])

    def count(self, pod, instances):
        if pod.setting("INSTANCE_COUNT") != str(instances):
            self.tell(pod.owner, f"INSTANCE_COUNT is {pod.setting('INSTANCE_COUNT')} with {instances} instances")
        slots = int(pod.setting("OLLAMA_NUM_PARALLEL"))
        if slots % instances:
            self.tell(pod.owner, f"{slots} slots of a model server do not divide by {instances} instances")

    def ways_in(self):
        services = {service["metadata"]["name"]: service for service in self.by_kind["Service"]}
        open_paths, closed_paths = set(), set()
        for ingress in self.by_kind["Ingress"]:
            notes = ingress["metadata"].get("annotations", {})
            ours = "nginx.ingress.kubernetes.io"
            is_closed = f"{ours}/whitelist-source-range" in notes
            tls = {host for entry in ingress["spec"].get("tls", []) for host in entry["hosts"]}
            for rule in ingress["spec"]["rules"]:
                if rule["host"] not in tls:
                    self.tell(ingress, f"serves {rule['host']} without TLS")
                for path in rule["http"]["paths"]:
                    (closed_paths if is_closed else open_paths).add((rule["host"], path["path"]))
                    wanted = path["backend"]["service"]
                    found = services.get(wanted["name"], {"spec": {"ports": []}})
                    if wanted["port"]["name"] not in [port["name"] for port in found["spec"]["ports"]]:
                        self.tell(ingress, f"leads to {wanted['name']}:{wanted['port']['name']}, which is not there")
                    if wanted["port"]["name"] == "ops":
                        self.tell(ingress, "opens the operators' port")
            if notes.get(f"{ours}/proxy-next-upstream") != "error":
                self.tell(ingress, "may send one request to two instances")
            if notes.get(f"{ours}/proxy-body-size") != f"{int(self.settings.default('MAX_REQUEST_SIZE_BYTES')) >> 20}m":
                self.tell(ingress, "takes another size of body than the service")
            if not is_closed:
                self.streams(ingress, notes, ours)
        for host, path in open_paths:
            if path == "/" and (host, "/v1/admin") not in closed_paths:
                self.tell("Ingress", f"{host}/v1/admin is open to everybody")

    def streams(self, ingress, notes, ours):
        if notes.get(f"{ours}/proxy-buffering") != "off":
            self.tell(ingress, "holds streams back")
        if int(notes.get(f"{ours}/proxy-read-timeout", 60)) <= int(self.settings.default("UPSTREAM_FIRST_BYTE_TIMEOUT_SECS")):
            self.tell(ingress, "gives up before an answer has to begin")

    def monitor(self, monitor):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [s for s in self.by_kind["Service"] if wanted <= s["metadata"].get("labels", {}).items()]
        if not found:
            self.tell(monitor, "selects no service")
        for endpoint in monitor["spec"]["endpoints"]:
            if any(endpoint["port"] not in [port["name"] for port in s["spec"]["ports"]] for s in found):
                self.tell(monitor, f"reads a port {endpoint['port']} that its services do not have")
            token = endpoint["authorization"]["credentials"]
            if token["key"] not in self.secrets.get(token["name"], ()):
                self.tell(monitor, f"reads {token['name']}/{token['key']}, which is not there")

    def release(self):
        images = {container["image"] for pod in self.pods for container in pod.containers}
        if len(images) != 1:
            self.tell("images", f"are not of one release: {', '.join(sorted(images))}")
        for pod in self.pods:
            if pod.owner["kind"] in LONG_LIVED and "MIGRATE_DATABASE_URL_FILE" in pod.environment:
                self.tell(pod.owner, "has the address of the schema's owner")
            if pod.owner["kind"] in LONG_LIVED and not self.by_kind["HorizontalPodAutoscaler"]:
                self.count(pod, pod.owner["spec"]["replicas"])


class Pod:
    def __init__(self, manifests, owner):
        self.manifests, self.owner = manifests, owner
        template = owner["spec"]["template"]
        self.labels, self.spec = template["metadata"]["labels"], template["spec"]
        self.containers = self.spec["containers"] + self.spec.get("initContainers", [])
        ports = [port for container in self.containers for port in container.get("ports", [])]
        self.ports = {port["name"]: port["containerPort"] for port in ports}
        self.environment = {}

    def tell(self, what):
        self.manifests.tell(self.owner, what)

    def setting(self, name):
        return self.environment.get(name) or self.manifests.settings.default(name)

    def judge(self):
        self.hardened()
        files = self.files()
        for container in self.containers:
            self.container(container)
            self.read_environment(container)
        for name, value in self.environment.items():
            if problem := self.manifests.settings.problem(name, value):
                self.tell(f"{name} {problem}")
            if self.manifests.settings.names_a_file(name) and value not in files:
                self.tell(f"{name} names {value}, which no volume brings")
        if self.owner["kind"] in LONG_LIVED:
            self.stop()
            self.listens()

    def hardened(self):
        context = self.spec.get("securityContext", {})
        wanted = {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for name, value in wanted.items():
            if context.get(name) != value:
                self.tell(f"{name} is not {value}")
        if self.spec.get("automountServiceAccountToken") is not False:
            self.tell("gets a token of the cluster")
        if self.spec.get("enableServiceLinks") is not False:
            self.tell("gets other services' addresses among its settings")
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if self.spec.get(name):
                self.tell(f"has {name}")
        account = self.spec.get("serviceAccountName")
        if account and account not in [a["metadata"]["name"] for a in self.manifests.by_kind["ServiceAccount"]]:
            self.tell(f"runs as {account}, which is not there")

    def container(self, container):
        name, context = container["name"], container.get("securityContext", {})
        if not re.search(r"@sha256:[0-9a-f]{64}$|:(?!latest$)[\w][\w.-]*$", container["image"]):
            self.tell(f"{name} runs {container['image']}, which may be another one tomorrow")
        if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
            self.tell(f"{name} may write to its root or gain privileges")
        if context.get("capabilities") != {"drop": ["ALL"]}:
            self.tell(f"{name} keeps capabilities")
        resources = container.get("resources", {})
        for kind in ("requests", "limits"):
            if not {"cpu", "memory"} <= set(resources.get(kind, {})):
                self.tell(f"{name} has no {kind} of both cpu and memory")
        if self.owner["kind"] in LONG_LIVED:
            for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
                asked = container.get(probe, {}).get("httpGet", {})
                if asked.get("path") != path or asked.get("port") not in self.ports:
                    self.tell(f"{name}: {probe} does not ask {path} of a port it has")

    def read_environment(self, container):
        maps = {m["metadata"]["name"]: m["data"] for m in self.manifests.by_kind["ConfigMap"]}
        for source in container.get("envFrom", []):
            name = source.get("configMapRef", {}).get("name")
            if name not in maps:
                self.tell(f"takes settings from {source}, which is no ConfigMap here")
            self.environment.update(maps.get(name, {}))
        for variable in container.get("env", []):
            if "value" not in variable:
                self.tell(f"{variable['name']} comes from {list(variable.get('valueFrom', {}))}; give secrets as files")
            self.environment[variable["name"]] = variable.get("value", "")

    def files(self):
        """The paths of all secrets that volumes bring, by where they are mounted."""
        brought, mounted = {}, collections.defaultdict(list)
        for container in self.containers:
            for mount in container.get("volumeMounts", []):
                mounted[mount["name"]].append(mount["mountPath"])
        for volume in self.spec.get("volumes", []):
            if "hostPath" in volume:
                self.tell("mounts a directory of the node")
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in [c["metadata"]["name"] for c in self.manifests.by_kind["PersistentVolumeClaim"]]:
                self.tell(f"mounts the claim {claim}, which is not there")
            direct = volume.get("secret")
            sources = [{"name": direct["secretName"], **direct}] if direct else []
            sources += [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
            mode = (direct or volume.get("projected", {})).get("defaultMode")
            if sources and mode != 0o440:
                self.tell(f"secrets of {volume['name']} may be opened by more than their group")
            for source in sources:
                for item in source["items"]:
                    if item["key"] not in self.manifests.secrets.get(source["name"], ()):
                        self.tell(f"mounts {source['name']}/{item['key']}, which is not there")
                brought.setdefault(volume["name"], []).extend(item["path"] for item in source["items"])
        names = {volume["name"] for volume in self.spec.get("volumes", [])}
        if names != set(mounted):
            self.tell(f"has the volumes {sorted(names)} and mounts {sorted(mounted)}")
        return {f"{base}/{path}" for name, paths in brought.items() for base in mounted[name] for path in paths}

    def stop(self):
        waits = self.containers[0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if not waits:
            self.tell("stops before balancers know")
        needed = waits + int(self.setting("SHUTDOWN_GRACE_SECS")) + STOP_AFTER_GRACE
        if self.spec.get("terminationGracePeriodSeconds", 30) < needed:
            self.tell(f"is killed before the {needed} s of its stop are over")

    def listens(self):
        for port, text in (("http", self.setting("APP_PORT")), ("ops", self.setting("OPS_BIND").rsplit(":", 1)[1])):
            if str(self.ports.get(port)) != text:
                self.tell(f"port {port} is not {text}, where the service listens")


def read(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--secrets")
    arguments = parser.parse_args()
    documents = read(arguments.file)
    problems = Manifests(documents, read(arguments.secrets) if arguments.secrets else ()).judge()
    print("\n".join(problems) or f"{arguments.file}: {len(documents)} manifests keep the rules")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
