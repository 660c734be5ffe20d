"""Breaks what deploy/policy.py checks, a thing at a time, and asks that the rule for it says so, and that no rule goes untested.

test_policy.py CONFIG DOCKERFILE RENDERED_FOLDER FOLDER...: as policy.py has them.
"""

import copy
import pathlib
import sys
import tomllib

import policy

GONE = object()
# Where things are; list items go by their index or by `[name]`.
SET, DEPLOYMENT = "StatefulSet/micro-reward", "Deployment/micro-reward"
SERVICE, PODS = "Service/micro-reward", "Service/micro-reward-pods"
NETWORK, STORE = "NetworkPolicy/micro-reward", "NetworkPolicy/micro-reward-store"
BUDGET, ACCOUNT = "PodDisruptionBudget/micro-reward", "ServiceAccount/micro-reward"
POD = "spec.template.spec"
BOX = f"{POD}.containers.0"
ENV = f"{BOX}.env.[MICRO_REWARD__"
HOST = {"name": "host", "hostPath": {"path": "/"}}
HTTP = {"port": "http", "protocol": "TCP"}
ADMIN = {"port": "admin", "protocol": "TCP"}
APIS = {"PodDisruptionBudget": "policy/v1", "StatefulSet": "apps/v1", "Secret": "v1"}
EVERYBODY = {"namespaceSelector": {}}

# (folder, object, field, what is there instead, the rule that fails)
BROKEN = [
    ("embedded", SET, "spec.replica", 1, "StatefulSet fits the strict schema of Kubernetes 1.31"),
    ("embedded", SET, "apiVersion", "apps/v1beta1", "StatefulSet fits the strict schema of Kubernetes 1.31"),
    ("embedded", SET, f"{BOX}.image", "micro-reward:latest", "the image has a fixed tag or digest"),
    ("embedded", SET, f"{BOX}.image", "registry.example:5000/micro-reward", "the image has a fixed tag or digest"),
    ("embedded", SET, "metadata.labels", {"app": "x"}, "has the recommended labels"),
    ("embedded", SET, "metadata.namespace", "default", "leaves the namespace open"),
    ("embedded", SET, f"{POD}.containers", [{"name": "a"}, {"name": "b"}], "one container"),
    ("embedded", SET, "spec.selector.matchLabels", {"app": "x"}, "selects its own pods"),
    ("embedded", SET, f"{ENV}LOG__FORMAT].name", "MICRO_REWARD__LOG__FORMATS", "every variable is a key of the config"),
    ("embedded", SET, f"{ENV}SERVER__LISTEN].value", "127.0.0.1:8080", "listens where port http says"),
    ("embedded", SET, f"{ENV}SERVER__ADMIN_LISTEN].value", "0.0.0.0:9000", "listens where port admin says"),
    ("embedded", SET, f"{BOX}.startupProbe.httpGet.port", "http", "startupProbe asks the admin port"),
    ("embedded", SET, f"{BOX}.readinessProbe.httpGet.port", 8080, "readinessProbe asks the admin port"),
    ("embedded", SET, f"{BOX}.livenessProbe.httpGet.port", "http", "livenessProbe asks the admin port"),
    ("embedded", SET, f"{BOX}.startupProbe.httpGet.path", "/livez", "startupProbe asks /readyz"),
    ("embedded", SET, f"{BOX}.readinessProbe.httpGet.path", "/livez", "readinessProbe asks /readyz"),
    ("embedded", SET, f"{BOX}.livenessProbe.httpGet.path", "/readyz", "livenessProbe asks /livez"),
    ("embedded", SET, f"{BOX}.startupProbe.failureThreshold", 24, "startupProbe waits at least 300 s"),
    ("valkey", DEPLOYMENT, f"{BOX}.startupProbe.failureThreshold", 3, "startupProbe waits at least 60 s"),
    ("embedded", SET, f"{BOX}.livenessProbe.failureThreshold", GONE, "livenessProbe waits at least 60 s"),
    ("embedded", SET, f"{BOX}.livenessProbe.timeoutSeconds", GONE, "a busy server is not killed (5 s or more)"),
    ("embedded", SET, f"{BOX}.lifecycle.preStop", {"exec": {"command": ["sleep", "5"]}}, "preStop is the kubelet's own sleep"),
    ("embedded", SET, f"{ENV}SHUTDOWN__READY_DELAY].value", "2 seconds", "MICRO_REWARD__SHUTDOWN__READY_DELAY is a duration"),
    ("embedded", SET, f"{ENV}SHUTDOWN__DRAIN_TIMEOUT].value", "", "MICRO_REWARD__SHUTDOWN__DRAIN_TIMEOUT is a duration"),
    ("embedded", SET, f"{POD}.terminationGracePeriodSeconds", 44, policy.GRACE),
    ("embedded", SET, f"{ENV}SHUTDOWN__DRAIN_TIMEOUT].value", "1m", policy.GRACE),
    ("valkey", DEPLOYMENT, f"{POD}.terminationGracePeriodSeconds", GONE, policy.GRACE),
    ("embedded", SET, f"{POD}.automountServiceAccountToken", True, "no API token in the pod"),
    ("embedded", SET, f"{POD}.securityContext.runAsNonRoot", GONE, "never runs as root"),
    ("embedded", SET, f"{POD}.securityContext.runAsUser", 0, "runs as 65532"),
    ("embedded", SET, f"{POD}.securityContext.fsGroup", GONE, "volumes are writable for 65532"),
    ("embedded", SET, f"{POD}.securityContext.seccompProfile.type", "Unconfined", "the runtime's seccomp profile"),
    ("embedded", SET, f"{BOX}.securityContext.runAsUser", 0, "the container does not override runAsUser"),
    ("embedded", SET, f"{BOX}.securityContext.runAsNonRoot", False, "the container does not override runAsNonRoot"),
    ("embedded", SET, f"{BOX}.securityContext.seccompProfile", {"type": "Unconfined"}, "the container does not override seccompProfile"),
    ("embedded", SET, f"{BOX}.securityContext.readOnlyRootFilesystem", GONE, "the root file system is read-only"),
    ("embedded", SET, f"{BOX}.securityContext.allowPrivilegeEscalation", GONE, "no privilege escalation"),
    ("embedded", SET, f"{BOX}.securityContext.capabilities.drop", ["NET_RAW"], "drops all capabilities"),
    ("embedded", SET, f"{BOX}.securityContext.capabilities.add", ["NET_ADMIN"], "adds no capability"),
    ("embedded", SET, f"{BOX}.securityContext.privileged", True, "not privileged"),
    ("embedded", SET, f"{POD}.hostNetwork", True, "no hostNetwork"),
    ("embedded", SET, f"{POD}.hostPID", True, "no hostPID"),
    ("embedded", SET, f"{POD}.hostIPC", True, "no hostIPC"),
    ("embedded", SET, f"{POD}.volumes.+", HOST, "no hostPath"),
    ("embedded", SET, f"{BOX}.volumeMounts.[tmp].mountPath", "/var/tmp", "/tmp is an emptyDir"),
    ("embedded", SET, f"{BOX}.resources.requests.cpu", GONE, "requests name cpu"),
    ("embedded", SET, f"{BOX}.resources.requests.memory", GONE, "requests name memory"),
    ("embedded", SET, f"{BOX}.resources.limits.cpu", GONE, "limits name cpu"),
    ("embedded", SET, f"{BOX}.resources.limits.memory", GONE, "limits name memory"),
    # The state.
    ("embedded", SET, f"{ENV}STATE__ENGINE].value", "memory", "MICRO_REWARD__STATE__ENGINE is as the folder is called"),
    ("embedded", SET, f"{ENV}STATE__ENGINE].value", "memory", "Recreate while the state is in memory"),
    ("valkey", DEPLOYMENT, f"{ENV}STATE__ENGINE].value", "memory", "one replica while the state is in memory"),
    ("valkey", DEPLOYMENT, f"{ENV}STATE__ENGINE].value", "memory", "Recreate while the state is in memory"),
    ("valkey", DEPLOYMENT, f"{ENV}STATE__ENGINE]", GONE, policy.ONE_OWNER),
    ("embedded", SET, "spec.replicas", 2, "one replica owns the data directory"),
    ("embedded", SET, "spec.replicas", 0, "one replica owns the data directory"),
    ("embedded", SET, f"{ENV}STATE__DATA_DIR]", GONE, "the data directory is on a volume of its own"),
    ("embedded", SET, f"{ENV}STATE__DATA_DIR].value", "/tmp/state", "the data directory is on a volume of its own"),
    ("embedded", SET, f"{ENV}STATE__DATA_DIR].value", "/database", "the data directory is on a volume of its own"),
    ("embedded", SET, "spec.volumeClaimTemplates", GONE, "the data directory is on a volume of its own"),
    ("embedded", SET, f"{BOX}.volumeMounts.[data].readOnly", True, "the data directory is on a volume of its own"),
    ("embedded", SET, f"{ENV}STATE__DATA_DIR].value", "/data", policy.ROOM),
    ("embedded", SET, "spec.volumeClaimTemplates.0.spec.accessModes", ["ReadWriteMany"], "one node writes to the volume"),
    ("embedded", SET, "spec.persistentVolumeClaimRetentionPolicy.whenDeleted", "Delete", "the volume outlives the StatefulSet"),
    ("embedded", SET, "spec.podManagementPolicy", GONE, "a pod that never gets ready does not block a rollback"),
    ("embedded", SET, "spec.serviceName", "micro-reward", "serviceName is the headless Service"),
    ("embedded", BUDGET, "", {"spec": {"selector": {}, "maxUnavailable": 0}}, "no budget that would block every drain of the node"),
    ("valkey", DEPLOYMENT, f"{ENV}STATE__DATA_DIR]", GONE, policy.OUTBOX),
    ("valkey", DEPLOYMENT, f"{ENV}STATE__DATA_DIR].value", "/data/state", policy.OUTBOX),
    ("valkey", DEPLOYMENT, f"{POD}.volumes.[outbox]", {"name": "outbox", "persistentVolumeClaim": {"claimName": "x"}}, policy.OUTBOX),
    ("valkey", DEPLOYMENT, f"{ENV}VALKEY__URL]", {"name": "MICRO_REWARD__VALKEY__URL", "value": "redis://a"}, "URL comes from a Secret"),
    ("valkey", DEPLOYMENT, f"{ENV}VALKEY__PASSWORD]", GONE, "PASSWORD comes from a Secret"),
    ("valkey", DEPLOYMENT, f"{ENV}VALKEY__USER_KEY]", GONE, "USER_KEY comes from a Secret"),
    ("valkey", DEPLOYMENT, "spec.strategy.rollingUpdate.maxUnavailable", 1, "an update takes no replica away before another is ready"),
    ("valkey", DEPLOYMENT, "spec.strategy", {"type": "Recreate"}, "an update takes no replica away before another is ready"),
    ("valkey", BUDGET, "", GONE, "one pod at a time may be evicted"),
    ("valkey", BUDGET, "spec.selector.matchLabels", {"app": "x"}, "one pod at a time may be evicted"),
    ("valkey", BUDGET, "spec.unhealthyPodEvictionPolicy", GONE, "pods that are not ready do not block evictions"),
    ("valkey", DEPLOYMENT, f"{POD}.topologySpreadConstraints.0", GONE, "replicas are spread over nodes and zones"),
    # Around the pods.
    ("embedded", ACCOUNT, "", GONE, "brings 1 of ServiceAccount"),
    ("embedded", PODS, "", GONE, "brings 2 of Service"),
    ("valkey", SET, "", {"spec": {}}, "brings one StatefulSet or Deployment"),
    ("valkey", "Secret/micro-reward-valkey", "", {"stringData": {"password": "x"}}, "brings no Secret"),
    ("embedded", ACCOUNT, "automountServiceAccountToken", GONE, "gives out no API token"),
    ("embedded", SERVICE, "spec.selector", {"app": "x"}, "selects the pods"),
    ("embedded", SERVICE, "spec.ports.[http].targetPort", "web", "names ports of the pod"),
    ("embedded", SERVICE, "spec.ports.[http].targetPort", "admin", "keeps the admin port inside"),
    ("embedded", SERVICE, "spec.ports.[http].targetPort", 8081, "keeps the admin port inside"),
    ("embedded", SERVICE, "spec.type", "LoadBalancer", "is within the cluster"),
    ("embedded", SERVICE, "spec.ports.[grpc].appProtocol", GONE, "says that gRPC is HTTP/2 without TLS"),
    ("embedded", SERVICE, "spec.ports.[http].appProtocol", "kubernetes.io/h2c", "says that HTTP is HTTP"),
    ("embedded", PODS, "spec.ports.[grpc].port", 50051, "has the pod's own port numbers"),
    # The network.
    ("embedded", NETWORK, "", GONE, "nothing passes that no policy names"),
    ("embedded", NETWORK, "spec.podSelector.matchLabels", {"app": "x"}, "nothing passes that no policy names"),
    ("embedded", NETWORK, "spec.policyTypes", ["Ingress"], "nothing passes that no policy names"),
    ("embedded", NETWORK, "spec.ingress.0", GONE, "traffic is let in"),
    ("embedded", NETWORK, "spec.ingress.1.from", GONE, policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.1.from", [], policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.1.from.+", EVERYBODY, policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.1.from.0.namespaceSelector", {}, policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.1.from.0.podSelector", {}, policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.0.ports", GONE, policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.0.ports", [HTTP, ADMIN], policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.0.ports", [{"port": 8080, "endPort": 8090}], policy.ADMIN),
    ("embedded", NETWORK, "spec.ingress.0.ports", [{"protocol": "TCP"}], policy.ADMIN),
    ("embedded", NETWORK, "spec.egress", [{}], "nothing is let out of a server that calls nobody"),
    ("valkey", NETWORK, "spec.egress", [{}], "what is let out has an address and a port"),
    ("valkey", STORE, "spec.egress.0.to", GONE, "what is let out has an address and a port"),
    ("valkey", STORE, "spec.egress.1", GONE, "the store and the names are let out to"),
]
# (what is in the Dockerfile, what is there instead, the rule that fails)
BROKEN_IMAGE = [
    ("USER 65532:65532", "USER root", "the image runs as 65532"),
    ('ENTRYPOINT ["/app/micro-reward"]', "ENTRYPOINT /app/micro-reward", "ENTRYPOINT is in exec form, so SIGTERM arrives"),
    ("-o 65532 -g 65532 /data", "/data", "65532 owns where the data directory is"),
    ("STATE__DATA_DIR=/data/state", "STATE__DATA_DIR=data", "65532 owns where the data directory is"),
]


def step(at, key):
    """One step down: a key, an index, or the index of the item with a name."""
    if not isinstance(at, list):
        return key
    if key.startswith("["):
        return next(idx for idx, item in enumerate(at) if item["name"] == key[1:-1])
    return int(key)


def broken(objects, name, field, value):
    """A copy of the objects in which one field is another or gone; without a field, a whole object is."""
    objects = copy.deepcopy(objects)
    kind, name = name.split("/")
    place = next((i for i, obj in enumerate(objects) if (obj["kind"], obj["metadata"]["name"]) == (kind, name)), None)
    if not field:
        if value is GONE:
            del objects[place]
        else:
            assert place is None, name
            objects.append({"kind": kind, "apiVersion": APIS[kind], "metadata": {"name": name}} | value)
        return objects
    at = objects[place]
    *path, last = field.split(".")
    for key in path:
        at = at[step(at, key)]
    if last == "+":
        at.append(value)
        return objects
    last = step(at, last)
    if value is GONE:
        del at[last]
    else:
        at[last] = value
    return objects


def rules(report, ok):
    return {rule for is_ok, _, rule, _ in report.lines if is_ok == ok}


def main():
    config, dockerfile, rendered, *folders = sys.argv[1:]
    defaults = tomllib.loads(pathlib.Path(config).read_text())
    text = pathlib.Path(dockerfile).read_text()
    passed, tested, report = set(), set(), policy.Report()

    def judge(what, rule, found):
        tested.add(rule)
        report.add(rule in rules(found, False), "deploy/policy.py", what, f"sees {what}", sorted(rules(found, False)))

    sets = {}
    for folder in folders:
        objects, files = policy.load(rendered, folder)
        sets[pathlib.Path(folder).name] = folder, objects, files
        whole = policy.Report()
        policy.check_set(whole, folder, objects, defaults, files)
        passed |= rules(whole, True)
    whole = policy.Report()
    policy.check_dockerfile(whole, dockerfile, text)
    passed |= rules(whole, True)

    for name, obj, field, value, rule in BROKEN:
        folder, objects, files = sets[name]
        found = policy.Report()
        policy.check_set(found, folder, broken(objects, obj, field, value), defaults, files)
        is_gone = "gone" if value is GONE else f"= {value!r}"
        judge(f"{name}: {obj} {field} {is_gone}", rule, found)
    for old, new, rule in BROKEN_IMAGE:
        assert old in text, old
        found = policy.Report()
        policy.check_dockerfile(found, dockerfile, text.replace(old, new))
        judge(f"{dockerfile}: {new}", rule, found)

    # The schemas are a library's; one broken object is enough for them.
    untested = sorted(rule for rule in passed - tested if "strict schema" not in rule)
    report.add(not untested, "deploy/test_policy.py", "BROKEN", "has every rule fail", untested)
    failures = [line for line in report.lines if not line[0]]
    report.lines = failures or [(True, "deploy/policy.py", f"sees each of {len(report.lines) - 1} mistakes, and every rule fails for one", "")]
    return 0 if report.show() else 2


if __name__ == "__main__":
    sys.exit(main())
