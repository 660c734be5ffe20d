"""Strict schemas, and the rules that no schema knows, for the Dockerfile and rendered sets of Kubernetes objects.

policy.py CONFIG DOCKERFILE RENDERED_FOLDER FOLDER...: one line per check; exits 2 when one fails. CONFIG is the file of defaults;
FOLDER/, rendered, is RENDERED_FOLDER/FOLDER.yaml.
"""

import pathlib
import re
import sys
import tomllib

import kubernetes_validate
import yaml

# The oldest Kubernetes that the files are meant for, and the newest whose schemas are at hand.
VERSIONS = ["1.31", kubernetes_validate.latest_version()]
USER = 65532
PREFIX = "MICRO_REWARD__"
# What stopping takes beside ready delay and drain timeout: see `App::stop`.
LAST = 12.5
# Rules that several mistakes break.
GRACE = f"a stop has time for preStop, ready delay, drain, {LAST:g} s and 5 s for the store"
ONE_OWNER = "a StatefulSet, of which no pod is ever twice, owns the data directory"
ROOM = "the data directory has room beside it on the volume, for `rebuild`"
OUTBOX = "the outbox is on a writable volume of its pod, or there is none"
ADMIN = "the admin port is for named pods of the namespace"


class Report:
    """What was checked: (passed, file, rule, what is wrong)."""

    def __init__(self):
        self.lines = []

    def add(self, ok, file, field, rule, found=None):
        self.lines.append((bool(ok), file, rule, f"{field}: found {found!r}"))

    def show(self):
        for ok, file, rule, wrong in self.lines:
            print(f"ok   {file}: {rule}" if ok else f"FAIL {file}: {rule}: {wrong}")
        return all(ok for ok, *_ in self.lines)


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


def selects(selector, labels):
    """Whether a selector picks pods with these labels; only matchLabels are understood."""
    wanted = get(selector or {}, "matchLabels", {})
    return "matchExpressions" not in (selector or {}) and wanted.items() <= labels.items()


def check_schema(report, file, obj):
    fits = True
    for version in VERSIONS:
        rule = f"{obj['kind']} fits the strict schema of Kubernetes {version}"
        try:
            kubernetes_validate.validate(obj, version, strict=True)
            report.add(True, file, "", rule)
        except kubernetes_validate.SchemaNotFoundError:
            fits = False
            report.add(False, file, "apiVersion", rule, obj["apiVersion"])
        except kubernetes_validate.ValidationError as error:
            fits = False
            field = ".".join(map(str, error.path)) or "(top level)"
            report.add(False, file, field, rule, error.message[:200])
    return fits


def check_common(report, file, obj):
    labels = get(obj, "metadata.labels", {})
    wanted = {f"app.kubernetes.io/{label}" for label in ("name", "instance", "part-of", "component")}
    report.add(wanted <= labels.keys(), file, "metadata.labels", "has the recommended labels", labels)
    namespace = get(obj, "metadata.namespace")
    report.add(namespace is None, file, "metadata.namespace", "leaves the namespace open", namespace)


class Workload:
    """The StatefulSet or Deployment, and what other objects are checked against."""

    def __init__(self, file, obj, defaults):
        self.file, self.obj = file, obj
        self.spec = get(obj, "spec", {})
        self.pod = get(self.spec, "template.spec", {})
        self.labels = get(self.spec, "template.metadata.labels", {})
        self.box = (self.pod.get("containers") or [{}])[0]
        self.env = {entry["name"]: entry for entry in self.box.get("env", []) if "name" in entry}
        self.ports = {port.get("name"): port.get("containerPort") for port in self.box.get("ports", [])}
        self.engine = self.value("STATE__ENGINE") or defaults["state"]["engine"]
        self.replicas = self.spec.get("replicas", 1)

    def value(self, key):
        return self.env.get(PREFIX + key, {}).get("value")


def check_pod(report, work, defaults):
    pod, box = work.pod, work.box
    base = "spec.template.spec"
    inside = f"{base}.containers[0]"

    def rule(ok, field, text, found):
        report.add(ok, work.file, field, text, found)

    def at(path, wanted, text):
        found = get(pod, path)
        rule(found == wanted and type(found) is type(wanted), f"{base}.{path}", text, found)

    def box_at(path, wanted, text):
        found = get(box, path)
        rule(found == wanted and type(found) is type(wanted), f"{inside}.{path}", text, found)

    n_boxes = len(pod.get("containers", []))
    rule(n_boxes == 1, f"{base}.containers", "one container", n_boxes)
    selector = get(work.spec, "selector", {})
    selected = selector.get("matchLabels") and selects(selector, work.labels)
    rule(selected, "spec.selector", "selects its own pods", selector)

    known = {f"{PREFIX}{section}__{key}".upper() for section, keys in defaults.items() for key in keys}
    unknown = [name for name in work.env if name.startswith(PREFIX) and name not in known]
    rule(not unknown, f"{inside}.env", "every variable is a key of the config", unknown)

    image = box.get("image", "")
    tag = re.search(r":([^:/@]+)(@sha256:[0-9a-f]{64})?$", image)
    pinned = (tag and tag[1] != "latest") or re.search(r"@sha256:[0-9a-f]{64}$", image)
    rule(pinned, f"{inside}.image", "the image has a fixed tag or digest", image)

    for port, key in (("http", "LISTEN"), ("admin", "ADMIN_LISTEN")):
        listen = work.value(f"SERVER__{key}")
        wanted = f"0.0.0.0:{work.ports.get(port)}"
        rule(listen == wanted, f"{inside}.env {PREFIX}SERVER__{key}", f"listens where port {port} says", listen)

    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        box_at(f"{probe}.httpGet.port", "admin", f"{probe} asks the admin port")
        box_at(f"{probe}.httpGet.path", path, f"{probe} asks {path}")
    # A start replays the journal, and begins anew when it is cut short.
    for probe, least in (("startupProbe", 300 if work.engine == "embedded" else 60), ("livenessProbe", 60)):
        patience = get(box, f"{probe}.periodSeconds", 10) * get(box, f"{probe}.failureThreshold", 3)
        rule(patience >= least, f"{inside}.{probe}", f"{probe} waits at least {least} s", patience)
    timeout = get(box, "livenessProbe.timeoutSeconds", 1)
    rule(timeout >= 5, f"{inside}.livenessProbe.timeoutSeconds", "a busy server is not killed (5 s or more)", timeout)

    sleep = get(box, "lifecycle.preStop.sleep.seconds")
    rule(isinstance(sleep, int), f"{inside}.lifecycle.preStop.sleep.seconds", "preStop is the kubelet's own sleep", sleep)
    need = LAST + (sleep if isinstance(sleep, int) else 0)
    for key in ("READY_DELAY", "DRAIN_TIMEOUT"):
        name = f"{PREFIX}SHUTDOWN__{key}"
        value = work.value(f"SHUTDOWN__{key}") or ""
        try:
            need += seconds(value)
            rule(True, "", f"{name} is a duration", value)
        except ValueError:
            rule(False, f"{inside}.env {name}", f"{name} is a duration", value)
    grace = pod.get("terminationGracePeriodSeconds", 30)
    rule(grace >= need + 5, f"{base}.terminationGracePeriodSeconds", GRACE, grace)

    at("automountServiceAccountToken", False, "no API token in the pod")
    at("securityContext.runAsNonRoot", True, "never runs as root")
    at("securityContext.runAsUser", USER, f"runs as {USER}")
    at("securityContext.fsGroup", USER, f"volumes are writable for {USER}")
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


def volume_at(work, path):
    """What is mounted, writable, at a path or above it: its mount path and the volume or claim template."""
    volumes = {volume.get("name"): volume for volume in work.pod.get("volumes", [])}
    claims = {get(claim, "metadata.name"): {"claimTemplate": claim} for claim in work.spec.get("volumeClaimTemplates", [])}
    best = ("", {})
    for mount in work.box.get("volumeMounts", []):
        at = mount.get("mountPath", "").rstrip("/")
        if (path == at or path.startswith(f"{at}/")) and len(at) > len(best[0]) and not mount.get("readOnly"):
            best = (at, (volumes | claims).get(mount.get("name"), {}))
    return best


def check_state(report, work, objects):
    def rule(ok, field, text, found):
        report.add(ok, work.file, field, text, found)

    env = "spec.template.spec.containers[0].env"
    kind, replicas = work.obj["kind"], work.replicas
    dir_entry = work.env.get(f"{PREFIX}STATE__DATA_DIR", {})
    data_dir = dir_entry.get("value")
    mount, volume = volume_at(work, data_dir or "")
    if work.engine == "memory":
        rule(replicas == 1, "spec.replicas", "one replica while the state is in memory", replicas)
        strategy = (kind, get(work.spec, "strategy.type"))
        rule(strategy == ("Deployment", "Recreate"), "spec.strategy.type", "Recreate while the state is in memory", strategy)
    elif work.engine == "embedded":
        rule(kind == "StatefulSet", "kind", ONE_OWNER, kind)
        rule(replicas == 1, "spec.replicas", "one replica owns the data directory", replicas)
        field = f"{env} {PREFIX}STATE__DATA_DIR"
        rule("claimTemplate" in volume, field, "the data directory is on a volume of its own", data_dir)
        inside = mount and data_dir != mount
        rule(inside, field, ROOM, data_dir)
        claim = get(volume, "claimTemplate.spec", {})
        modes = claim.get("accessModes")
        rule(modes in (["ReadWriteOnce"], ["ReadWriteOncePod"]), "spec.volumeClaimTemplates", "one node writes to the volume", modes)
        policy = get(work.spec, "persistentVolumeClaimRetentionPolicy", {})
        kept = policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        rule(kept, "spec.persistentVolumeClaimRetentionPolicy", "the volume outlives the StatefulSet", policy)
        policy = work.spec.get("podManagementPolicy")
        rule(policy == "Parallel", "spec.podManagementPolicy", "a pod that never gets ready does not block a rollback", policy)
    elif work.engine == "valkey":
        shared = "persistentVolumeClaim" in volume and replicas > 1
        placed = data_dir == "" or (bool(volume) and not shared)
        field = f"{env} {PREFIX}STATE__DATA_DIR"
        rule(placed, field, OUTBOX, dir_entry)
        for key in ("URL", "PASSWORD", "USER_KEY"):
            entry = work.env.get(f"{PREFIX}VALKEY__{key}", {})
            secret = "value" not in entry and get(entry, "valueFrom.secretKeyRef.name")
            rule(secret, f"{env} {PREFIX}VALKEY__{key}", f"{key} comes from a Secret", entry)
        if kind == "Deployment":
            rolling = get(work.spec, "strategy.rollingUpdate.maxUnavailable"), get(work.spec, "strategy.type")
            rule(rolling == (0, "RollingUpdate"), "spec.strategy", "an update takes no replica away before another is ready", rolling)
    if kind == "StatefulSet":
        name = work.spec.get("serviceName")
        service = next((obj for obj in objects if obj["kind"] == "Service" and get(obj, "metadata.name") == name), {})
        headless = get(service, "spec.clusterIP") == "None"
        rule(headless, "spec.serviceName", "serviceName is the headless Service", name)

    budgets = [obj for obj in objects if obj["kind"] == "PodDisruptionBudget"]
    if replicas > 1:
        allowed = [get(obj, "spec.maxUnavailable") for obj in budgets if selects(get(obj, "spec.selector"), work.labels)]
        rule(allowed == [1], "PodDisruptionBudget", "one pod at a time may be evicted", allowed)
        unhealthy = [get(obj, "spec.unhealthyPodEvictionPolicy") for obj in budgets]
        rule(unhealthy == ["AlwaysAllow"], "PodDisruptionBudget", "pods that are not ready do not block evictions", unhealthy)
        constraints = work.pod.get("topologySpreadConstraints", [])
        spread = {part.get("topologyKey") for part in constraints if selects(part.get("labelSelector"), work.labels)}
        wanted = {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        rule(spread >= wanted, "spec.template.spec.topologySpreadConstraints", "replicas are spread over nodes and zones", sorted(spread))
    else:
        names = [get(obj, "metadata.name") for obj in budgets]
        rule(not budgets, "PodDisruptionBudget", "no budget that would block every drain of the node", names)


def check_service(report, file, obj, work):
    selector = get(obj, "spec.selector", {})
    selected = bool(selector) and selector.items() <= work.labels.items()
    report.add(selected, file, "spec.selector", "selects the pods", selector)
    ports = get(obj, "spec.ports", [])
    targets = [port.get("targetPort") for port in ports]
    report.add(set(targets) <= work.ports.keys(), file, "spec.ports.targetPort", "names ports of the pod", targets)
    inside = "admin" not in targets and work.ports.get("admin") not in targets
    report.add(inside, file, "spec.ports", "keeps the admin port inside", targets)
    kind = get(obj, "spec.type")
    report.add(kind == "ClusterIP", file, "spec.type", "is within the cluster", kind)
    spoken = {port.get("name"): port.get("appProtocol") for port in ports}
    grpc = spoken.get("grpc")
    report.add(grpc == "kubernetes.io/h2c", file, "spec.ports", "says that gRPC is HTTP/2 without TLS", spoken)
    if get(obj, "spec.clusterIP") == "None":
        numbers = [(port.get("port"), work.ports.get(port.get("targetPort"))) for port in ports]
        report.add(all(a == b for a, b in numbers), file, "spec.ports.port", "has the pod's own port numbers", numbers)
    else:
        report.add(spoken.get("http") == "http", file, "spec.ports", "says that HTTP is HTTP", spoken)


def check_network(report, file, objects, work):
    """Who reaches the pods and whom they reach, by all policies together."""
    policies = [
        obj["spec"]
        for obj in objects
        if obj["kind"] == "NetworkPolicy" and selects(get(obj, "spec.podSelector"), work.labels)
    ]
    types = {kind for spec in policies for kind in spec.get("policyTypes", [])}
    report.add(types == {"Ingress", "Egress"}, file, "NetworkPolicy", "nothing passes that no policy names", sorted(types))

    def holds(entry, name):
        number, port = work.ports.get(name), entry.get("port")
        return port in (name, number, None) or (isinstance(port, int) and port <= number <= entry.get("endPort", port))

    def admits(rule, name):
        ports = rule.get("ports", [])
        return not ports or any(holds(entry, name) for entry in ports)

    def is_named(peer):
        return peer.keys() == {"podSelector"} and bool(get(peer, "podSelector.matchLabels"))

    ingress = [rule for spec in policies for rule in spec.get("ingress") or []]
    http = [rule for rule in ingress if admits(rule, "http")]
    report.add(http, file, "NetworkPolicy", "traffic is let in", ingress)
    admin = [rule.get("from", []) for rule in ingress if admits(rule, "admin")]
    closed = all(peers and all(map(is_named, peers)) for peers in admin)
    report.add(closed, file, "NetworkPolicy", ADMIN, admin)

    egress = [rule for spec in policies for rule in spec.get("egress") or []]
    if work.engine == "valkey":
        aimed = all(rule.get("to") and rule.get("ports") for rule in egress)
        report.add(aimed, file, "NetworkPolicy", "what is let out has an address and a port", egress)
        ports = {(port.get("port"), port.get("protocol")) for rule in egress for port in rule.get("ports", [])}
        wanted = {(53, "UDP"), (53, "TCP"), (6379, "TCP")}
        report.add(ports == wanted, file, "NetworkPolicy", "the store and the names are let out to", sorted(map(str, ports)))
    else:
        report.add(not egress, file, "NetworkPolicy", "nothing is let out of a server that calls nobody", egress)


def check_set(report, folder, objects, defaults, files):
    """All rules for one rendered set."""
    engine = pathlib.Path(folder).name
    count = {kind: sum(obj["kind"] == kind for obj in objects) for kind in {obj["kind"] for obj in objects}}
    works = [obj for obj in objects if obj["kind"] in ("StatefulSet", "Deployment")]
    for kind, n in (("ServiceAccount", 1), ("Service", 2)):
        report.add(count.get(kind) == n, folder, "resources", f"brings {n} of {kind}", count)
    report.add(len(works) == 1, folder, "resources", "brings one StatefulSet or Deployment", count)
    report.add("Secret" not in count, folder, "resources", "brings no Secret", count)

    def file(obj):
        return f"{folder}: {files.get((obj['kind'], get(obj, 'metadata.name')), obj['kind'])}"

    # The rules below rely on the types.
    fitting = [obj for obj in objects if check_schema(report, file(obj), obj)]
    if len(fitting) < len(objects) or len(works) != 1:
        return
    work = Workload(file(works[0]), works[0], defaults)
    report.add(work.engine == engine, work.file, "env", f"{PREFIX}STATE__ENGINE is as the folder is called", work.engine)
    check_pod(report, work, defaults)
    check_state(report, work, objects)
    check_network(report, folder, objects, work)
    for obj in objects:
        check_common(report, file(obj), obj)
        if obj["kind"] == "Service":
            check_service(report, file(obj), obj, work)
        elif obj["kind"] == "ServiceAccount":
            token = obj.get("automountServiceAccountToken")
            report.add(token is False, file(obj), "automountServiceAccountToken", "gives out no API token", token)


def check_dockerfile(report, file, text):
    last_stage = text[text.rfind("\nFROM ") :]
    users = re.findall(r"^USER +(\S+)", last_stage, re.M)
    report.add(users[-1:] == [f"{USER}:{USER}"], file, "USER", f"the image runs as {USER}", users)
    entry = re.search(r"^ENTRYPOINT \[", last_stage, re.M)
    report.add(entry, file, "ENTRYPOINT", "ENTRYPOINT is in exec form, so SIGTERM arrives", "another form")
    data_dir = re.search(rf"{PREFIX}STATE__DATA_DIR=(\S+)", last_stage)
    made = re.search(rf"^RUN install -d -o {USER} -g {USER} (\S+)$", last_stage, re.M)
    owned = data_dir and made and data_dir[1].startswith(f"{made[1]}/")
    report.add(owned, file, "ENV", f"{USER} owns where the data directory is", data_dir and data_dir[1])


def load(rendered, folder):
    """A rendered set, and which source file has which of its objects."""
    rendered = pathlib.Path(rendered) / f"{pathlib.Path(folder).name}.yaml"
    objects = [obj for obj in yaml.safe_load_all(rendered.read_text()) if obj]
    files = {}
    root = pathlib.Path(folder).parent
    for path in [*sorted((root / "base").glob("*.yaml")), *sorted(pathlib.Path(folder).glob("*.yaml"))]:
        for obj in yaml.safe_load_all(path.read_text()):
            if obj and "kind" in obj:
                files[obj["kind"], get(obj, "metadata.name")] = str(path.relative_to(root))
    return objects, files


def main():
    config, dockerfile, rendered, *folders = sys.argv[1:]
    defaults = tomllib.loads(pathlib.Path(config).read_text())
    report = Report()
    check_dockerfile(report, dockerfile, pathlib.Path(dockerfile).read_text())
    for folder in folders:
        objects, files = load(rendered, folder)
        check_set(report, folder, objects, defaults, files)
    # Not 1, which is what a crash exits with.
    return 0 if report.show() else 2


if __name__ == "__main__":
    sys.exit(main())
