//! What the cache keeps for everybody, and what the operator takes out of it.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Gate, Object, ScriptedOrigin, config, fault};

const TOKEN: &str = "the admin's own token";

/// A gate before `origin` with a cached route for each path, bucket and key.
async fn gate(origin: &ScriptedOrigin, routes: &[(&str, &str, &str)]) -> Gate {
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    for (id, bucket, key) in routes {
        let mut route = config::object_route(&format!("/{id}/{{**key}}"), "main", bucket, key);
        route["OutputCachePolicy"] = json!("Default");
        config["ReverseProxy"]["Routes"][*id] = route;
    }
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    Gate::start_with(&config, &[("ADMIN_TOKEN", TOKEN)]).await
}

async fn purge(gate: &Gate, scope: Value) {
    let request = gate.admin().request(Method::POST, "/cache/purge").bearer_auth(TOKEN).json(&scope);
    let reply = request.send().await.expect("it answers").error_for_status().expect("it purges");
    assert_eq!(reply.json::<Value>().await.expect("JSON"), json!({ "purged": scope, "durable": true }));
}

#[tokio::test]
async fn what_is_purged_by_its_route_is_served_old_by_no_other() {
    let origin = ScriptedOrigin::start().await;
    let routes = [
        ("songs", "audio", "songs/{**key}"),
        ("all", "audio", "{**key}"),
        ("again", "audio", "songs/{**key}"),
        ("elsewhere", "other", "{**key}"),
    ];
    let gate = gate(&origin, &routes).await;
    // Whether a purge of `songs` covers it. That route comes last: what it fetches anew would be there for the others.
    let table = [
        ("/all/songs/a", true),
        ("/again/a", true),
        ("/all/other", false),
        ("/elsewhere/songs/a", false),
        ("/songs/a", true),
    ];
    let put = |text: &'static str| {
        for path in ["/audio/songs/a", "/audio/other", "/other/songs/a"] {
            origin.put(path, Object::new(text));
        }
    };
    put("old");
    for (path, _) in table {
        assert_eq!(gate.client().get(path, &[]).await.is(200).text(), "old", "{path}");
    }
    put("new");
    purge(&gate, json!({ "route": "songs" })).await;
    let mut wrong = Vec::new();
    for (path, purged) in table {
        let text = gate.client().get(path, &[]).await.is(200).text();
        if text != if purged { "new" } else { "old" } {
            wrong.push((path, text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // All of a bucket, by the route that has all of it.
    purge(&gate, json!({ "route": "all" })).await;
    for (path, text) in [("/all/other", "new"), ("/elsewhere/songs/a", "old")] {
        assert_eq!(gate.client().get(path, &[]).await.is(200).text(), text, "{path}");
    }
}

#[tokio::test]
async fn a_denial_of_one_moment_is_nobody_elses() {
    let origin = ScriptedOrigin::start().await;
    let gate = gate(&origin, &[]).await;
    let client = gate.client();
    for (number, headers) in [&[][..], &[("range", "bytes=-1")], &[("if-none-match", "\"x\"")]].into_iter().enumerate()
    {
        let path = format!("/cached/{number}");
        origin.put(&format!("/audio/{number}"), Object::new("music"));
        origin.always(fault::DENIED);
        client.get(&path, headers).await.problem(404);
        origin.reset();
        client.get(&path, headers).await.is(if headers.first().is_some_and(|(name, _)| *name == "range") {
            206
        } else {
            200
        });
    }
    // That there is none is believed for a moment.
    client.get("/cached/none", &[]).await.problem(404);
    origin.put("/audio/none", Object::new("music"));
    client.get("/cached/none", &[]).await.problem(404);
}
