//! Configurations as values: a base that a test changes at the place it is about. Written out as YAML by the gate.

use serde_json::{Value, json};

use super::store::{ACCESS_KEY, SECRET_KEY};
use super::token;

/// The environment that the gate gets: the names that [`objects`] refers to.
pub const ENVIRONMENT: [(&str, &str); 3] =
    [("S3_ACCESS_KEY", ACCESS_KEY), ("S3_SECRET_KEY", SECRET_KEY), ("JWT_SECRET_KEY", token::SECRET)];

/// `/stream/{**key}` gives the objects of `bucket` in the store at `endpoint` to everybody.
pub fn objects(endpoint: &str, bucket: &str) -> Value {
    let mut config = empty();
    config["ObjectStores"]["main"] = store(endpoint);
    config["ReverseProxy"]["Routes"]["stream"] = object_route("/stream/{**key}", "main", bucket, "{**key}");
    config
}

/// As [`objects`], and `/cached/{**key}` gives the same through the cache.
pub fn objects_both_ways(endpoint: &str, bucket: &str) -> Value {
    let mut config = objects(endpoint, bucket);
    let mut route = object_route("/cached/{**key}", "main", bucket, "{**key}");
    route["OutputCachePolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"]["cached"] = route;
    config
}

/// As [`objects`], for those with a token of [`token`] only.
pub fn private_objects(endpoint: &str, bucket: &str) -> Value {
    let mut config = objects(endpoint, bucket);
    config["Auth"] = jwt();
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("Default");
    config
}

/// Time span that no test waits for: a timeout of the gate that must not be the cause of what the test sees.
pub const NEVER: &str = "1h";

/// Listeners on free ports and nothing else. No timeout ends a connection, and no grace a stop, but those that a test sets: so
/// what a test sees has the cause that it is about, however long it takes.
pub fn empty() -> Value {
    json!({ "Server": {
        "Listeners": [{ "Address": "127.0.0.1:0" }],
        "HeaderTimeout": NEVER,
        "BodyTimeout": NEVER,
        "WriteTimeout": NEVER,
        "KeepAliveTimeout": NEVER,
        "ShutdownGrace": NEVER,
        "Limits": { "DataRateWindow": NEVER },
        "Admin": { "Address": "127.0.0.1:0" },
    } })
}

/// A store at `endpoint`, path style, with the keys of [`ENVIRONMENT`].
pub fn store(endpoint: &str) -> Value {
    json!({
        "Endpoint": endpoint,
        "Region": "us-east-1",
        "PathStyle": true,
        "Credentials": { "AccessKey": "env:S3_ACCESS_KEY", "SecretKey": "env:S3_SECRET_KEY" },
        "PresignExpiry": "15m",
    })
}

/// An anonymous object route.
pub fn object_route(path: &str, store: &str, bucket: &str, key: &str) -> Value {
    json!({
        "Match": { "Path": path },
        "AuthorizationPolicy": "Anonymous",
        "Transforms": [{ "PresignedUrl": { "Store": store, "Bucket": bucket, "Key": key } }],
    })
}

/// An anonymous plain route.
pub fn plain_route(path: &str, cluster: &str) -> Value {
    json!({ "Match": { "Path": path }, "ClusterId": cluster, "AuthorizationPolicy": "Anonymous" })
}

/// A timeout policy by which no exchange with a server ends.
pub fn patient() -> Value {
    json!({ "Connect": NEVER, "FirstByte": NEVER, "Idle": NEVER })
}

/// A cluster over these addresses.
pub fn cluster(addresses: &[String]) -> Value {
    let mut destinations = json!({});
    for (index, address) in addresses.iter().enumerate() {
        destinations[format!("d{index}")] = json!({ "Address": address });
    }
    json!({ "LoadBalancingPolicy": "RoundRobin", "Destinations": destinations })
}

/// One HS256 issuer with the secret of [`token`], and every place a token can be in.
pub fn jwt() -> Value {
    json!({ "Jwt": {
        "Issuers": [{ "Issuer": "https://issuer.test", "Secret": "env:JWT_SECRET_KEY", "Audience": "tidegate" }],
        "TokenFrom": ["Header", "Cookie:session", "Query:access_token"],
    } })
}
