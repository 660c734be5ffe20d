"""Calls a real server with stock grpcio: python grpc_client.py SERVER. Run by proto/check, which makes the stubs.

Prints a line for each case, and exits with 2 where one failed.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from google.rpc import error_details_pb2
from micro.reward.v1 import reward_pb2 as pb
from micro.reward.v1 import reward_pb2_grpc

ROOT = pathlib.Path(__file__).parents[2]
SERVICE = "micro.reward.v1.RewardService"
KIND, EXACT = "thanks friend glad", "exactly seven percent"
TIMEOUT = 20


class Server:
    """A server on a free port, with the toy bundle and a directory of its own.

    It inherits no settings: the shell and the checkout may be those of somebody who runs a server there.
    """

    def __init__(self, program, directory):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MICRO_REWARD__")}
        environment |= {
            "MICRO_REWARD__LOG__FORMAT": "json",
            "MICRO_REWARD__MODEL__BUNDLE": str(ROOT / "models/toy"),
            "MICRO_REWARD__MODEL__ONNXRUNTIME_LIBRARY": str(ROOT / "vendor/onnxruntime/libonnxruntime.so"),
            "MICRO_REWARD__SHUTDOWN__READY_DELAY": "500ms",
        }
        command = [program, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, cwd=directory, env=environment, stderr=subprocess.PIPE, text=True)
        self.address = self.wait_until_ready()
        # A full pipe would block the server.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def wait_until_ready(self):
        last = {"message": "it said nothing"}
        for last in map(json.loads, self.process.stderr):
            if "address" in last:
                return last["address"]
        raise SystemExit(f"the server did not start: {last['message']}")


def item(*responses):
    return pb.ScoreItem(prompt="tell me about tea", responses=[pb.Response(text=text) for text in responses])


def request(*responses, **fields):
    return pb.ScoreRequest(items=[item(*responses)], **fields)


def pair(user, event_id, chosen, rejected):
    event = pb.Event(event_id=event_id, user=user, kind=pb.EVENT_KIND_PAIR, prompt="tea", chosen=chosen, rejected=rejected)
    return pb.FeedbackRequest(event=event)


def details(error):
    """The ErrorInfo, BadRequest and RetryInfo of an error, by name."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        name = detail.type_url.rsplit(".", 1)[1]
        found[name] = getattr(error_details_pb2, name)()
        detail.Unpack(found[name])
    return found


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it was not refused")


def score(stub, _):
    answer = stub.Score(request(KIND, EXACT, detail=True), timeout=TIMEOUT)
    assert len(answer.items[0].rewards) == 2 and len(answer.items[0].heads) == 2
    assert abs(sum(answer.items[0].weights) - 1) < 1e-9
    quantile = request(KIND, EXACT, objective=pb.OBJECTIVE_QUANTILE, q=0.0)
    worst = stub.Score(quantile, timeout=TIMEOUT).items[0].rewards
    assert list(worst) == [min(heads.rewards) for heads in answer.items[0].heads]


def errors(stub, _):
    error = refused(lambda: stub.Score(request(), timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    found = details(error)
    assert found["ErrorInfo"].reason == "invalid_field" and found["ErrorInfo"].domain == "micro-reward"
    assert found["BadRequest"].field_violations[0].field == "items[0].responses"
    error = refused(lambda: stub.GetUser(pb.GetUserRequest(user="nobody"), timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.NOT_FOUND and details(error)["ErrorInfo"].reason == "unknown_user"


def score_stream(stub, _):
    messages = [pb.ScoreStreamRequest(correlation_id=str(i), request=request(*[KIND] * (i % 5))) for i in range(500)]
    answers = list(stub.ScoreStream(iter(messages), timeout=TIMEOUT))
    assert [answer.correlation_id for answer in answers] == [str(i) for i in range(500)]
    for i, answer in enumerate(answers):
        if i % 5 == 0:
            assert answer.error.code == "invalid_field" and answer.error.field == "items[0].responses", answer
        else:
            assert len(answer.response.items[0].rewards) == i % 5, answer


def feedback(stub, _):
    events = [pair(user, f"{user}-{i}", *texts)
              for i in range(20) for user, texts in [("ann", (KIND, EXACT)), ("bob", (EXACT, KIND))]]
    events.insert(10, pb.FeedbackRequest(event=pb.Event(event_id="bad", user="ann")))
    events.append(events[-1])
    acks = list(stub.Feedback(iter(events), timeout=TIMEOUT))
    assert [ack.event_id for ack in acks] == [event.event.event_id for event in events]
    assert acks[10].status == pb.ACK_STATUS_REJECTED and "kind" in acks[10].detail, acks[10]
    assert acks[-1].status == pb.ACK_STATUS_DUPLICATE and not acks[-1].HasField("code")
    assert all(ack.status == pb.ACK_STATUS_APPLIED for ack in acks[:10] + acks[11:-1])
    assert acks[-1].version == 20


def rank_and_compare(stub, _):
    for user, best in [("ann", 0), ("bob", 1)]:
        ranked = stub.Rank(pb.RankRequest(user=user, items=[item(KIND, EXACT)]), timeout=TIMEOUT).items[0]
        assert ranked.order[0] == best and abs(sum(ranked.best) - 1) < 1e-9, ranked
        pair = pb.CompareRequest(user=user, prompt="tea", a=pb.Response(text=KIND), b=pb.Response(text=EXACT))
        compared = stub.Compare(pair, timeout=TIMEOUT)
        assert (compared.preference > 0.5) == (best == 0) and len(compared.scored.rewards) == 2, compared


def users(stub, _):
    user = stub.GetUser(pb.GetUserRequest(user="ann"), timeout=TIMEOUT)
    assert user.n == 20 and user.weights[0] > 0.9 and user.last_event.seconds > 1_700_000_000, user
    receipt = stub.EraseUser(pb.EraseUserRequest(user="ann"), timeout=TIMEOUT)
    assert receipt.existed and receipt.n == 20, receipt
    assert not stub.EraseUser(pb.EraseUserRequest(user="ann"), timeout=TIMEOUT).existed


def questions_and_models(stub, _):
    model = stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT).models[0]
    following = stub.NextQuestion(pb.NextQuestionRequest(user="bob"), timeout=TIMEOUT)
    assert following.of == model.questions > 0 and following.HasField("question")
    tea = pb.Candidate(id="tea", prompt="tea", a=pb.Response(text=KIND), b=pb.Response(text=EXACT))
    elicited = stub.Elicit(pb.ElicitRequest(candidates=[tea, tea], limit=1), timeout=TIMEOUT)
    assert [candidate.id for candidate in elicited.candidates] == ["tea"]


def deadline_and_cancel(stub, _):
    forever = threading.Event()

    def silent():
        forever.wait()
        yield

    error = refused(lambda: list(stub.ScoreStream(silent(), timeout=0.2)))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    call = stub.Feedback(silent(), timeout=TIMEOUT)
    call.cancel()
    assert refused(lambda: list(call)).code() == grpc.StatusCode.CANCELLED
    forever.set()
    assert len(stub.Score(request(KIND), timeout=TIMEOUT).items) == 1


def calls_cancelled_beside_a_long_one(stub, _):
    cancelled = threading.Event()

    def messages():
        yield pb.ScoreStreamRequest(correlation_id="first", request=request(KIND))
        cancelled.wait()
        yield pb.ScoreStreamRequest(correlation_id="last", request=request(KIND))

    answers = stub.ScoreStream(messages(), timeout=3 * TIMEOUT)
    assert next(answers).correlation_id == "first"
    for _ in range(10):
        calls = [stub.Score.future(request(KIND), timeout=0.004) for _ in range(100)]
        for call in calls[::2]:
            call.cancel()
        for call in calls:
            call.code()  # Waits for its end.
    cancelled.set()
    assert next(answers).correlation_id == "last"


def reflection(_, channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    pool = descriptor_pool.DescriptorPool(database)
    methods = {method.name for method in pool.FindServiceByName(SERVICE).methods}
    assert methods == {method.name for method in pb.DESCRIPTOR.services_by_name["RewardService"].methods}


def health(_, channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ["", SERVICE]:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer


def stopping(stub, channel, server):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=TIMEOUT)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    more = threading.Event()

    def events():
        yield pair("cid", "1", KIND, EXACT)
        more.wait()

    acks = stub.Feedback(events(), timeout=TIMEOUT)
    assert next(acks).status == pb.ACK_STATUS_APPLIED
    server.process.send_signal(signal.SIGTERM)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    for stream in [acks, watch]:
        error = refused(lambda: next(stream))
        assert error.code() == grpc.StatusCode.UNAVAILABLE and "RetryInfo" in details(error), error
    more.set()
    assert server.process.wait(timeout=10) == 0


def attempt(name, case, *arguments):
    try:
        case(*arguments)
        print(f"ok   grpcio: {name}", flush=True)
        return True
    except Exception as error:  # Whatever goes wrong, the other cases are worth running.
        print(f"FAIL grpcio: {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return False


def main(program):
    with tempfile.TemporaryDirectory() as directory:
        server = Server(ROOT / program, directory)
        try:
            with grpc.insecure_channel(server.address) as channel:
                stub = reward_pb2_grpc.RewardServiceStub(channel)
                cases = [score, errors, score_stream, feedback, rank_and_compare, users, questions_and_models,
                         deadline_and_cancel, calls_cancelled_beside_a_long_one, reflection, health]
                passed = [attempt(case.__name__.replace("_", " "), case, stub, channel) for case in cases]
                passed.append(attempt("stopping", stopping, stub, channel, server))
        finally:
            server.process.kill()
            server.process.wait()
    return 0 if all(passed) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
