//! gRPC through the gateway, with a real client and a real server: unary calls, streams in both directions, metadata, trailers and
//! failures, over HTTP/2 without TLS on both sides.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::tools;
use crate::support::{Gate, config, in_time};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/grpc/peer.py");

/// A gRPC server.
struct EchoServer {
    _process: Child,
    address: String,
}

fn peer() -> Option<Command> {
    let mut command = Command::new(tools::find("grpc-python")?);
    command.arg(PEER).kill_on_drop(true);
    Some(command)
}

impl EchoServer {
    async fn start() -> Option<Self> {
        let mut process =
            peer()?.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let port = in_time("its port", lines.next_line()).await.expect("it can be read").expect("a line");
        Some(Self { _process: process, address: format!("http://127.0.0.1:{port}") })
    }
}

async fn gate(address: &str, request: Value) -> Gate {
    let mut config = config::empty();
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["ReverseProxy"]["Routes"]["echo"] = config::plain_route("/echo.Echo/{method}", "echo");
    config["ReverseProxy"]["Clusters"]["echo"] = config::cluster(&[address.to_owned()]);
    config["ReverseProxy"]["Clusters"]["echo"]["HttpRequest"] = request;
    Gate::start(&config).await
}

async fn call(address: &str) -> Value {
    let output = in_time("the calls", peer().expect("it was there").arg("call").arg(address).output()).await;
    let output = output.expect("the client runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&told)
        .unwrap_or_else(|error| panic!("{error}: {told}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn grpc_passes_with_trailers_failures_and_streams_in_both_directions() {
    let Some(server) = EchoServer::start().await else { return };
    let gate = gate(&server.address, json!({ "Version": "2", "VersionPolicy": "RequestVersionExact" })).await;
    let told = call(&gate.address().to_string()).await;
    for (what, expected) in [
        ("unary", json!("hello")),
        ("initial", json!("yes")),
        ("trailing", json!(["last", "00ff"])),
        ("large", json!(true)),
        ("split", json!(["a", "b", "c"])),
        ("join", json!("abc")),
        ("chat", json!(["re:m0", "re:m1", "re:m2", "re:m3", "re:m4"])),
        ("rest", json!([])),
        ("many", json!(true)),
    ] {
        assert_eq!(told[what], expected, "{what}: {told}");
    }
    let failure = |code: &str, details: &str| (json!(code), json!(details));
    for (what, (code, details)) in [
        ("fail", failure("FAILED_PRECONDITION", "not so: \u{e9}")),
        ("fail_late", failure("DATA_LOSS", "cut")),
        ("unknown", failure("UNIMPLEMENTED", "Method not found!")),
        ("deadline", failure("DEADLINE_EXCEEDED", "Deadline Exceeded")),
    ] {
        assert_eq!((&told[what]["code"], &told[what]["details"]), (&code, &details), "{what}: {told}");
    }
    assert_eq!(told["fail"]["trailing"]["x-trailing"], "of a failure", "{told}");
}

#[tokio::test]
async fn a_server_that_speaks_http_2_alone_answers_nothing_where_http_1_is_asked_for() {
    let Some(server) = EchoServer::start().await else { return };
    let gate = gate(&server.address, json!({ "Version": "1.1" })).await;
    let mut client = peer().expect("it was there");
    let output = in_time("the call", client.arg("call").arg(gate.address().to_string()).output()).await;
    let told = String::from_utf8_lossy(&output.expect("the client runs").stderr).into_owned();
    assert!(told.contains("StatusCode.UNAVAILABLE"), "{told}");
}
