//! Nothing of the store gets out: canaries in everything that is the store's, and every byte of the gate searched. Two
//! audiences: clients see nothing of the store at all; the operator sees names and addresses, and never what opens a store
//! or what a store says.

use http::Method;
use serde_json::{Value, json};

use crate::support::fault::{self, End, Refusal, Step};
use crate::support::origin::pattern;
use crate::support::{Gate, LIMIT, Object, ScriptedOrigin, config, token};

/// One in each name of the store, for the operator alone. Canaries are found in any case, and each is a word that nothing
/// else says.
const NAMES: [&str; 3] = ["canaryendpoint", "canarybucket", "canaryprefix"];

/// One in each thing that nobody may see: keys, tokens, queries, and words of the store's own.
const SECRETS: [&str; 5] = ["canarykeyid", "canarysecret", "canaryupstream", "canaryjwt", "canaryquery"];

/// What a signed URL is made of, for nobody.
const SIGNATURES: [&str; 5] = ["x-amz-", "x-minio-", "awsaccesskeyid", "aws4-hmac", "signaturedoesnotmatch"];

const ENVIRONMENT: [(&str, &str); 3] = [
    ("S3_ACCESS_KEY", "CANARYKEYID00001"),
    ("S3_SECRET_KEY", "canarysecret-of-the-store"),
    ("JWT_SECRET_KEY", "canaryjwt, a secret of 32 bytes or more"),
];

/// The store is named by an endpoint that is only signed; the cluster says where to connect.
fn configuration(address: &str) -> Value {
    let mut config = config::private_objects("http://canaryendpoint.internal:9000", "canarybucket");
    let route = &mut config["ReverseProxy"]["Routes"]["stream"];
    route["ClusterId"] = json!("store");
    route["TimeoutPolicy"] = json!("quick");
    route["CorsPolicy"] = json!("app");
    route["Transforms"][0]["PresignedUrl"]["Key"] = json!("canaryprefix/{**key}");
    let mut denied = route.clone();
    denied["Match"]["Path"] = json!("/denied/{**key}");
    denied["HideExistence"] = json!(false);
    config["ReverseProxy"]["Routes"]["denied"] = denied;
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[address.to_owned()]);
    // What is said at any level.
    config["Telemetry"]["LogLevel"] = json!("debug");
    config["Policies"]["Timeout"]["quick"] = json!({ "Connect": "1s", "FirstByte": "300ms", "Idle": "500ms" });
    config["Policies"]["Cors"]["app"] = json!({ "Origins": ["https://app.test"] });
    config
}

/// All that a store can answer, with more of itself in it than any store says.
fn steps() -> Vec<Step> {
    const TALKATIVE: Step = Step::Edit(|answer| {
        for name in ["X-Amz-Request-Id", "X-Minio-Deployment-Id", "Server", "Via", "X-Canary", "Set-Cookie", "Link"] {
            answer.set(name, "canaryupstream");
        }
        answer.set("X-Amz-Meta-Origin", "canaryupstream");
        answer.set("Access-Control-Allow-Origin", "http://canaryupstream.test");
        answer.set("Content-Location", "/canarybucket/canaryprefix/track.mp3");
    });
    const REDIRECT: Step = Step::Edit(|answer| {
        answer.status = 307;
        answer.set("Location", "http://canaryendpoint.internal/canarybucket?X-Amz-Signature=canaryupstream");
    });
    let odd = Refusal {
        status: 418,
        code: "CanaryUpstream",
        message: "canaryupstream has a mood of its own",
        headers: &[("x-amz-bucket-region", "canaryupstream"), ("Retry-After", "canaryupstream")],
    };
    let plain = |status| fault::refuse(status, "InternalError", "canaryupstream at canaryendpoint");
    vec![
        TALKATIVE,
        REDIRECT,
        Step::Refuse(odd),
        plain(400),
        plain(401),
        plain(409),
        plain(500),
        plain(502),
        plain(503),
        plain(504),
        fault::EXPIRED,
        fault::DENIED,
        fault::WRONG_SIGNATURE,
        fault::UNKNOWN_KEY,
        fault::ARCHIVED,
        fault::NO_SUCH_KEY,
        fault::NO_SUCH_BUCKET,
        fault::DELETE_MARKER,
        fault::SLOW_DOWN,
        fault::TOO_MANY,
        fault::SWITCHING_PROTOCOLS,
        fault::UNASKED_NOT_MODIFIED,
        fault::NO_CONTENT_RANGE,
        fault::WRONG_CONTENT_RANGE,
        fault::WHOLE,
        fault::LONG,
        Step::Raw(b"HTTP/1.1 canaryupstream\r\ncanaryupstream\r\n\r\n"),
        Step::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: canaryupstream\r\n\r\n"),
        Step::Silence(End::Close),
        Step::Silence(End::Reset),
        Step::Silence(End::Stall),
        // Few enough pieces that whoever continues a broken body is soon done.
        Step::Body { send: 40, end: End::Close },
        Step::Body { send: 40, end: End::Reset },
        Step::Body { send: 40, end: End::Stall },
    ]
}

/// Everything that came back for one request, however it ended.
async fn bytes_of(what: &str, gate: &Gate, method: &Method, path: &str, headers: &str) -> Vec<u8> {
    let mut raw = gate.raw().await;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n{headers}\r\n");
    raw.send(head.as_bytes()).await;
    match raw.rest(LIMIT).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => panic!("{what} did not end"),
        // A broken stream is reset; what came before it is in the log of the origin's step only.
        Err(_) => Vec::new(),
    }
}

/// Searches what a client sees.
fn search(place: &str, bytes: &[u8], found: &mut Vec<String>) {
    search_for(place, bytes, NAMES.iter().chain(&SECRETS).chain(&SIGNATURES), found);
}

/// Searches what the operator sees: the log and the admin address.
fn search_of_operator(place: &str, bytes: &[u8], found: &mut Vec<String>) {
    search_for(place, bytes, SECRETS.iter().chain(&SIGNATURES), found);
}

fn search_for<'a>(place: &str, bytes: &[u8], words: impl Iterator<Item = &'a &'a str>, found: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    for word in words {
        if let Some(at) = text.find(word) {
            let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
            let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
            found.push(format!("{word} in {place}: {:?}", &text[line..end]));
        }
    }
}

#[tokio::test]
async fn no_canary_gets_out_on_any_path() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/canarybucket/canaryprefix/track.mp3", Object::new(pattern(200)));
    let gate = Gate::start_with(&configuration(&origin.url()), &ENVIRONMENT).await;
    let secret = token::signed(&token::claims("alice"), ENVIRONMENT[2].1);
    let bearer = format!("Authorization: Bearer {secret}\r\nOrigin: https://app.test\r\n");
    let mut found = Vec::new();
    for step in steps() {
        for (method, path, more) in [
            (Method::GET, "/stream/track.mp3", ""),
            (Method::GET, "/stream/track.mp3", "Range: bytes=100-199\r\n"),
            (Method::HEAD, "/stream/track.mp3", ""),
            (Method::GET, "/denied/track.mp3", "If-Match: \"other\"\r\n"),
        ] {
            origin.reset();
            origin.always(step.clone());
            let what = format!("the answer to {method} {path} {more:?} for {step:?}");
            let bytes = bytes_of(&what, &gate, &method, path, &format!("{bearer}{more}")).await;
            search(&what, &bytes, &mut found);
        }
    }
    origin.reset();
    for (method, path, more) in [
        (Method::GET, "/stream/none.mp3", bearer.as_str()),
        (Method::GET, "/stream/track.mp3", ""),
        (Method::GET, "/stream/track.mp3?access_token=canaryjwt", ""),
        (Method::GET, "/stream/track.mp3", "Range: bytes=99999-\r\n"),
        (Method::DELETE, "/stream/track.mp3", bearer.as_str()),
        (Method::OPTIONS, "/stream/track.mp3", bearer.as_str()),
        (Method::GET, "/stream/../x", bearer.as_str()),
        (Method::GET, "/nowhere?token=canaryquery", ""),
        (Method::GET, "/t/canaryjwt.canaryjwt/stream/track.mp3", ""),
        (Method::GET, "/health", ""),
        (Method::GET, "/openapi.json", ""),
    ] {
        let what = format!("the answer to {method} {path}");
        let bytes = bytes_of(&what, &gate, &method, path, more).await;
        search(&what, &bytes, &mut found);
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        let reply = gate.admin().get(path, &[]).await;
        search_of_operator(path, format!("{:?}\n{}", reply.headers, reply.text()).as_bytes(), &mut found);
    }
    let metrics = gate.metrics().await;
    search("the metrics", metrics.as_bytes(), &mut found);
    search_of_operator("the log", gate.log().as_bytes(), &mut found);
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    let log = gate.log();
    let signature = secret.rsplit('.').next().expect("a token has parts");
    assert!(!log.contains(signature), "the client's token is in the log");
    assert!(origin.open_connections() < 100, "connections to the store pile up");
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_named_to_the_operator_alone() {
    // The name resolves nowhere; nothing listens at the other one.
    for endpoint in ["http://canaryendpoint.invalid:9000", "http://127.0.0.1:1"] {
        let mut config = configuration("http://127.0.0.1:1");
        config["ObjectStores"]["main"]["Endpoint"] = json!(endpoint);
        let route = config["ReverseProxy"]["Routes"]["stream"].as_object_mut().expect("a route");
        route.remove("ClusterId");
        let mut gate = Gate::start_with(&config, &ENVIRONMENT).await;
        let bearer = format!("Authorization: Bearer {}\r\n", token::signed(&token::claims("alice"), ENVIRONMENT[2].1));
        let mut found = Vec::new();
        let bytes = bytes_of("the answer", &gate, &Method::GET, "/stream/track.mp3", &bearer).await;
        assert!(bytes.starts_with(b"HTTP/1.1 50"), "{}", String::from_utf8_lossy(&bytes));
        search("the answer", &bytes, &mut found);
        let ready = gate.admin().get("/readyz", &[]).await;
        search_of_operator("/readyz", &ready.body, &mut found);
        gate.stop().await;
        search_of_operator("the log", gate.log().as_bytes(), &mut found);
        let log = gate.log();
        assert!(log.contains(endpoint) && log.contains("canarybucket"), "the operator is told which: {log}");
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}

#[tokio::test]
async fn the_response_headers_are_an_allow_list() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/canarybucket/canaryprefix/track.mp3", Object::new("music"));
    let gate = Gate::start_with(&configuration(&origin.url()), &ENVIRONMENT).await;
    origin.always(steps().remove(0));
    let bearer = format!("Bearer {}", token::signed(&token::claims("alice"), ENVIRONMENT[2].1));
    let reply = gate.client().get("/stream/track.mp3", &[("authorization", &bearer)]).await;
    let allowed = [
        "accept-ranges",
        "cache-control",
        "connection",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "etag",
        "expires",
        "keep-alive",
        "last-modified",
        "vary",
        "x-content-type-options",
        "x-request-id",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "access-control-allow-credentials",
        "timing-allow-origin",
        "cross-origin-resource-policy",
    ];
    for name in reply.is(200).headers.keys() {
        assert!(allowed.contains(&name.as_str()), "{name} is not ours to send: {:?}", reply.headers);
    }
}
