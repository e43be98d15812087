//! Another configuration of traces while requests are served.

use serde_json::{Value, json};

use super::collector::Collector;
use super::{TRACK, traced};
use crate::reload::{reload, start};
use crate::support::{ScriptedOrigin, config, eventually};

#[tokio::test]
async fn traces_go_where_the_file_in_force_says_from_the_next_request_on() {
    let origin = ScriptedOrigin::with_track("music").await;
    let (first, second) = (Collector::start().await, Collector::start().await);
    let plain = config::objects(&origin.url(), "audio");
    let mut config = traced(plain.clone(), &first, "http");
    let gate = start(&mut config).await;
    let get = async || gate.client().get(TRACK, &[]).await.is(200).status;
    get().await;
    first.trace_of(TRACK).await;
    let same: Value = config.clone();
    reload(&gate, &same).await;
    get().await;
    first.traces_of(TRACK, 2).await;
    config["Telemetry"]["Otlp"]["Endpoint"] = json!(second.url());
    config["Telemetry"]["Otlp"]["Protocol"] = json!("grpc");
    reload(&gate, &config).await;
    get().await;
    second.trace_of(TRACK).await;
    let mut none = plain;
    none["Server"]["ReloadOnChange"] = json!(false);
    reload(&gate, &none).await;
    get().await;
    let lines = eventually("its line", async || Some(gate.access_lines()).filter(|lines| lines.len() == 4)).await;
    let traced: Vec<bool> = lines.iter().map(|line| line["trace_id"].is_string()).collect();
    assert_eq!(traced, [true, true, true, false]);
    let roots = |collector: &Collector| collector.spans().iter().filter(|span| span.parent.is_empty()).count();
    assert_eq!((roots(&first), roots(&second)), (2, 1));
}
