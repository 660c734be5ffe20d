"""Strict schemas, and the rules that no schema knows, for a rendered set of Kubernetes objects.

policy.py RENDERED SOURCE_FOLDER DOCKERFILE: one line per check; exits 2 when one fails.
"""

import pathlib
import re
import sys

import kubernetes_validate
import yaml

# The oldest Kubernetes that the files are meant for, and the newest whose schemas are at hand.
VERSIONS = ["1.31", kubernetes_validate.latest_version()]
USER = 65532
failed = False


def report(ok, file, field, rule, found=None):
    global failed
    failed |= not ok
    print(f"ok   {file}: {rule}" if ok else f"FAIL {file}: {field}: {rule} (found {found!r})")


def get(obj, path, default=None):
    for key in path.split("."):
        obj = obj.get(key) if isinstance(obj, dict) else None
    return default if obj is None else obj


def seconds(text):
    """A duration as the server's config has it: 500ms, 2s, 1m 30s."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    parts = re.findall(r"(\d+)\s*(ms|s|m|h)\b", text)
    if not parts or re.sub(r"(\d+)\s*(ms|s|m|h)\b|\s", "", text):
        raise ValueError(text)
    return sum(int(number) * units[unit] for number, unit in parts)


def check_schema(file, obj):
    fits = True
    for version in VERSIONS:
        rule = f"{obj['kind']} fits the strict schema of Kubernetes {version}"
        try:
            kubernetes_validate.validate(obj, version, strict=True)
            report(True, file, "", rule)
        except kubernetes_validate.ValidationError as error:
            fits = False
            field = ".".join(map(str, error.path)) or "(top level)"
            report(False, file, field, rule, error.message[:200])
    return fits


def check_common(file, obj):
    labels = get(obj, "metadata.labels", {})
    for label in ("name", "instance", "part-of", "component"):
        if f"app.kubernetes.io/{label}" not in labels:
            report(False, file, "metadata.labels", f"has the label app.kubernetes.io/{label}", labels)
            break
    else:
        report(True, file, "", f"{obj['kind']} has the recommended labels")
    namespace = get(obj, "metadata.namespace")
    report(namespace is None, file, "metadata.namespace", f"{obj['kind']} leaves the namespace open", namespace)


def check_deployment(file, obj, dockerfile):
    spec = obj["spec"]
    pod = get(spec, "template.spec", {})
    base = "spec.template.spec"

    def rule(ok, field, text, found):
        report(bool(ok), file, field, text, found)

    def at(path, wanted, text):
        found = get(pod, path)
        rule(found == wanted and type(found) is type(wanted), f"{base}.{path}", text, found)

    containers = pod.get("containers", [])
    rule(len(containers) == 1, f"{base}.containers", "one container", len(containers))
    if not containers:
        return
    box = containers[0]
    inside = f"{base}.containers[0]"

    def box_at(path, wanted, text):
        found = get(box, path)
        rule(found == wanted and type(found) is type(wanted), f"{inside}.{path}", text, found)

    env = {entry["name"]: entry.get("value") for entry in box.get("env", []) if "name" in entry}
    ports = {port.get("name"): port.get("containerPort") for port in box.get("ports", [])}

    selector = get(spec, "selector.matchLabels", {})
    labels = get(spec, "template.metadata.labels", {})
    rule(selector and selector.items() <= labels.items(), "spec.selector.matchLabels", "selects its own pods", selector)

    if env.get("MICRO_REWARD__STATE__ENGINE", "memory") == "memory":
        rule(spec.get("replicas") == 1, "spec.replicas", "1 while the state is in memory", spec.get("replicas"))
        strategy = get(spec, "strategy.type")
        rule(strategy == "Recreate", "spec.strategy.type", "Recreate while the state is in memory", strategy)

    image = box.get("image", "")
    tag = re.search(r":([^:/@]+)(@sha256:[0-9a-f]{64})?$", image)
    pinned = (tag and tag[1] != "latest") or re.search(r"@sha256:[0-9a-f]{64}$", image)
    rule(pinned, f"{inside}.image", "the image has a fixed tag or digest", image)

    for port, key in (("http", "LISTEN"), ("admin", "ADMIN_LISTEN")):
        listen = env.get(f"MICRO_REWARD__SERVER__{key}")
        wanted = f"0.0.0.0:{ports.get(port)}"
        rule(listen == wanted, f"{inside}.env MICRO_REWARD__SERVER__{key}", f"listens where port {port} says", listen)

    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        box_at(f"{probe}.httpGet.port", "admin", f"{probe} asks the admin port")
        box_at(f"{probe}.httpGet.path", path, f"{probe} asks {path}")
    patience = {
        probe: get(box, f"{probe}.periodSeconds", 10) * get(box, f"{probe}.failureThreshold", 3)
        for probe in ("startupProbe", "livenessProbe")
    }
    for probe, least in (("startupProbe", 60), ("livenessProbe", 60)):
        rule(patience[probe] >= least, f"{inside}.{probe}.failureThreshold", f"{probe} waits at least {least} s", patience[probe])
    timeout = get(box, "livenessProbe.timeoutSeconds", 1)
    rule(timeout >= 5, f"{inside}.livenessProbe.timeoutSeconds", "a busy server is not killed (5 s or more)", timeout)

    sleep = get(box, "lifecycle.preStop.sleep.seconds")
    rule(isinstance(sleep, int), f"{inside}.lifecycle.preStop.sleep.seconds", "preStop is the kubelet's own sleep", sleep)
    need = sleep if isinstance(sleep, int) else 0
    for key in ("LINGER", "DRAIN_TIMEOUT"):
        name = f"MICRO_REWARD__SHUTDOWN__{key}"
        value = env.get(name) or ""
        try:
            need += seconds(value)
            rule(True, "", f"{name} is set", value)
        except ValueError:
            rule(False, f"{inside}.env {name}", "is set to a duration", value)
    grace = pod.get("terminationGracePeriodSeconds", 30)
    rule(
        grace >= need + 5,
        f"{base}.terminationGracePeriodSeconds",
        f"at least preStop + linger + drain + 5 = {need + 5:g}",
        grace,
    )

    at("automountServiceAccountToken", False, "no API token in the pod")
    at("securityContext.runAsNonRoot", True, "never runs as root")
    at("securityContext.runAsUser", USER, f"runs as {USER}")
    at("securityContext.seccompProfile.type", "RuntimeDefault", "the runtime's seccomp profile")
    for key in ("runAsUser", "runAsNonRoot", "seccompProfile"):
        found = get(box, f"securityContext.{key}")
        rule(found is None, f"{inside}.securityContext.{key}", f"the container does not override {key}", found)
    box_at("securityContext.readOnlyRootFilesystem", True, "the root file system is read-only")
    box_at("securityContext.allowPrivilegeEscalation", False, "no privilege escalation")
    box_at("securityContext.capabilities.drop", ["ALL"], "drops all capabilities")
    found = get(box, "securityContext.capabilities.add")
    rule(not found, f"{inside}.securityContext.capabilities.add", "adds no capability", found)
    found = get(box, "securityContext.privileged", False)
    rule(found is False, f"{inside}.securityContext.privileged", "not privileged", found)
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        found = pod.get(key, False)
        rule(found is False, f"{base}.{key}", f"no {key}", found)
    volumes = {volume.get("name"): volume for volume in pod.get("volumes", [])}
    host = [name for name, volume in volumes.items() if "hostPath" in volume]
    rule(not host, f"{base}.volumes", "no hostPath", host)
    mounts = {mount.get("mountPath"): mount.get("name") for mount in box.get("volumeMounts", [])}
    rule("emptyDir" in volumes.get(mounts.get("/tmp"), {}), f"{inside}.volumeMounts", "/tmp is an emptyDir", mounts)

    for kind in ("requests", "limits"):
        for what in ("cpu", "memory"):
            field = f"resources.{kind}.{what}"
            found = get(box, field)
            rule(found, f"{inside}.{field}", f"{kind} name {what}", found)

    text = pathlib.Path(dockerfile).read_text()
    last_stage = text[text.rfind("\nFROM ") :]
    users = re.findall(r"^USER +(\S+)", last_stage, re.M)
    report(users[-1:] == [f"{USER}:{USER}"], dockerfile, "USER", f"the image runs as {USER}", users)
    report(bool(re.search(r"^ENTRYPOINT \[", last_stage, re.M)), dockerfile, "ENTRYPOINT", "in exec form, so SIGTERM arrives")


def check_service(file, obj, deployment):
    template = get(deployment, "spec.template", {})
    selector = get(obj, "spec.selector", {})
    labels = get(template, "metadata.labels", {})
    report(bool(selector) and selector.items() <= labels.items(), file, "spec.selector", "selects the pods", selector)
    named = {port.get("name") for box in get(template, "spec.containers", []) for port in box.get("ports", [])}
    targets = [port.get("targetPort") for port in get(obj, "spec.ports", [])]
    report(set(targets) <= named, file, "spec.ports.targetPort", "names ports of the pod", targets)
    report("admin" not in targets and 8081 not in targets, file, "spec.ports", "keeps the admin port inside", targets)


def main():
    rendered, folder, dockerfile = sys.argv[1:]
    files = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        for obj in yaml.safe_load_all(path.read_text()):
            if obj and "kind" in obj:
                files[obj["kind"], get(obj, "metadata.name")] = str(path)
    objects = [obj for obj in yaml.safe_load_all(pathlib.Path(rendered).read_text()) if obj]
    kinds = {obj["kind"]: obj for obj in objects}
    for kind in ("Deployment", "Service", "ServiceAccount"):
        report(kind in kinds, f"{folder}/kustomization.yaml", "resources", f"brings a {kind}")
    for obj in objects:
        file = files.get((obj["kind"], get(obj, "metadata.name")), rendered)
        if not check_schema(file, obj):
            continue  # The rules below rely on the types.
        check_common(file, obj)
        if obj["kind"] == "Deployment":
            check_deployment(file, obj, dockerfile)
        elif obj["kind"] == "Service":
            check_service(file, obj, kinds.get("Deployment", {}))
        elif obj["kind"] == "ServiceAccount":
            token = obj.get("automountServiceAccountToken")
            report(token is False, file, "automountServiceAccountToken", "gives out no API token", token)
    # Not 1, which is what a crash exits with.
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
