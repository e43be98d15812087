//! Clients that take more of the server than their share: connections, requests, time, frames. Each is ended or refused
//! by its limit, and the others notice nothing.

mod admin_address;
mod connection_counts;
mod data_rates;
mod h2spec;
mod http2_floods;
mod request_limits;
mod stalled_streams;

use serde_json::{Value, json};

use crate::support::{Gate, Object, ScriptedOrigin, config};

/// An object route and a plain route, HTTP/2 by prior knowledge, and these limits of the server.
async fn gate(origin: &ScriptedOrigin, limits: Value) -> Gate {
    Gate::start(&configuration(origin, limits)).await
}

fn configuration(origin: &ScriptedOrigin, limits: Value) -> Value {
    origin.put("/plain/x", Object::new("plain"));
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["Server"]["Limits"] = limits;
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    config
}
