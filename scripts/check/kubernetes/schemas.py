"""Holds rendered manifests against the schemas of Kubernetes, strictly: schemas.py VERSION… FILE…

Kinds of other projects have no schema there; policy.py reads those that we have.
"""

import sys

import kubernetes_validate
import yaml

OTHERS = {"ServiceMonitor", "ExternalSecret"}


def main(arguments):
    versions = [text for text in arguments if text[0].isdigit()]
    problems, held = [], 0
    for path in arguments[len(versions):]:
        with open(path, encoding="utf-8") as file:
            manifests = list(yaml.safe_load_all(file))
        for manifest in manifests:
            if manifest["kind"] in OTHERS:
                continue
            for version in versions:
                held += 1
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = ".".join(str(step) for step in error.path)
                    problems.append(f"{path}: {manifest['kind']}/{manifest['metadata']['name']} in {version}: {where}: {error.message}")
    print("\n".join(problems) or f"{held} manifests hold against the schemas of {' and '.join(versions)}")
    return bool(problems) or not held


sys.exit(main(sys.argv[1:]))
