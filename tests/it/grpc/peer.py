"""A gRPC server and a gRPC client of the service `echo.Echo`, whose messages are plain bytes.

`serve` prints its port and serves until its standard input ends. `call ADDRESS` makes one call of each kind and prints what
came of it as JSON.
"""

import json
import queue
import sys
from concurrent import futures

import grpc

SERVICE = "echo.Echo"
LIMIT = 20


class Echo(grpc.GenericRpcHandler):
    """Unary, both streams, and a call that fails."""

    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Split": grpc.unary_stream_rpc_method_handler(self.split),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
        }
        prefix = f"/{SERVICE}/"
        return kinds.get(details.method.removeprefix(prefix)) if details.method.startswith(prefix) else None

    def unary(self, request, context):
        asked = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-initial", asked.get("x-asked", "")),))
        context.set_trailing_metadata((("x-trailing", "last"), ("x-blob-bin", b"\x00\xff")))
        return request

    def split(self, request, context):
        for byte in request:
            yield bytes([byte])

    def join(self, requests, context):
        return b"".join(requests)

    def chat(self, requests, context):
        for request in requests:
            yield b"re:" + request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-trailing", "of a failure"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: \u00e9")

    def fail_late(self, request, context):
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "cut")

    def sleep(self, request, context):
        done = queue.Queue()
        context.add_callback(lambda: done.put(None))
        done.get(timeout=LIMIT)
        return b""


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


def chat(channel):
    """Each message is sent only when the answer to the one before has come: nothing on the way may wait for an end."""
    sent, heard = queue.Queue(), []
    answers = channel.stream_stream(f"/{SERVICE}/Chat")(iter(sent.get, None), timeout=LIMIT)
    for number in range(5):
        sent.put(f"m{number}".encode())
        heard.append(next(answers).decode())
    sent.put(None)
    return heard, list(answers)


def failure(call):
    try:
        list(call)
    except grpc.RpcError as error:
        return {
            "code": error.code().name,
            "details": error.details(),
            "trailing": {key: value for key, value in error.trailing_metadata() or () if key.startswith("x-")},
        }
    return None


def call(address):
    told = {}
    with grpc.insecure_channel(address) as channel:
        answer, unary = channel.unary_unary(f"/{SERVICE}/Unary").with_call(
            b"hello", timeout=LIMIT, metadata=(("x-asked", "yes"),)
        )
        told["unary"] = answer.decode()
        told["initial"] = dict(unary.initial_metadata()).get("x-initial")
        trailing = dict(unary.trailing_metadata())
        told["trailing"] = [trailing.get("x-trailing"), trailing.get("x-blob-bin", b"").hex()]
        large = bytes(range(256)) * 4096
        told["large"] = channel.unary_unary(f"/{SERVICE}/Unary")(large, timeout=LIMIT) == large
        told["split"] = [part.decode() for part in channel.unary_stream(f"/{SERVICE}/Split")(b"abc", timeout=LIMIT)]
        told["join"] = channel.stream_unary(f"/{SERVICE}/Join")(iter([b"a", b"b", b"c"]), timeout=LIMIT).decode()
        told["chat"], told["rest"] = chat(channel)
        for name, method in [("fail", "Fail"), ("fail_late", "FailLate"), ("unknown", "Nothing")]:
            told[name] = failure(channel.unary_stream(f"/{SERVICE}/{method}")(b"x", timeout=LIMIT))
        told["deadline"] = failure(channel.unary_stream(f"/{SERVICE}/Sleep")(b"x", timeout=0.5))
        many = [channel.unary_unary(f"/{SERVICE}/Unary").future(str(n).encode(), timeout=LIMIT) for n in range(50)]
        told["many"] = [one.result().decode() for one in many] == [str(n) for n in range(50)]
    print(json.dumps(told))


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(sys.argv[2])
