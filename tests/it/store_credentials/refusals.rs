//! Stores that refuse: who asks for other keys, and how often.

use futures::future::join_all;
use serde_json::json;

use super::stand_in::{Keys, TokenService, token_of};
use super::{HOUR, TRACK, web_identity, with_credentials};
use crate::catalogue::sqlite;
use crate::lyrics::{add, ask, lyrics};
use crate::support::Gate;
use crate::support::fault::{self, Step};
use crate::support::origin::{Object, ScriptedOrigin};
use crate::support::tools::TempFolder;

/// Keys that have ended, as AWS says it.
const ENDED: Step = fault::refuse(400, "ExpiredToken", "The provided token has expired.");

#[tokio::test]
async fn fifty_refused_requests_ask_once_and_denied_ones_never() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let folder = TempFolder::new("token");
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token").expect("a file");
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    let gate = Gate::start(&with_credentials(&store, web_identity(&service, &file.display().to_string()))).await;
    assert_eq!(service.questions().len(), 1);
    for (answer, status, questions) in [(fault::DENIED, 404, 0), (fault::UNKNOWN_KEY, 503, 1)] {
        store.always(answer);
        let client = gate.client();
        let paths: Vec<String> = (0..50).map(|number| format!("/stream/{number}.mp3")).collect();
        let replies = join_all(paths.iter().map(|path| client.get(path, &[]))).await;
        assert!(replies.iter().all(|reply| reply.status.as_u16() == status), "{status}: {}", replies[0].text());
        assert_eq!(service.questions().len(), questions, "{status}");
    }
}

#[tokio::test]
async fn a_reader_of_lyrics_asks_for_other_keys_where_the_store_refuses_these_and_only_there() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let folder = TempFolder::new("lyrics");
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token").expect("a file");
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    let mut all = lyrics(&store.url(), &sqlite(&folder));
    all["ObjectStores"]["main"]["Credentials"] = web_identity(&service, &file.display().to_string());
    let gate = Gate::start(&all).await;
    add(&gate, "absent", "audio", "absent.mp3").await;
    add(&gate, "track", "audio", "track.mp3").await;
    store.put("/audio/track.lrc", Object::new("[00:01.00]First\n"));
    service.questions();
    store.always(fault::DENIED);
    ask(&gate, "absent", "alice").await.problem(404);
    assert_eq!(service.questions().len(), 0, "it is only not there");
    store.reset();
    service.gives(&Keys::new("TWO", HOUR.as_secs()));
    store.script([ENDED]);
    ask(&gate, "track", "alice").await.is(200);
    assert_eq!(service.questions().len(), 1);
    let seen = store.take_seen();
    let tokens: Vec<_> = seen.iter().map(|seen| token_of(seen).unwrap_or_default()).collect();
    assert!(tokens[0] == "token-of-ONE" && tokens[1..].iter().all(|token| token == "token-of-TWO"), "{tokens:?}");
}

#[tokio::test]
async fn keys_that_aws_says_have_ended_are_replaced_within_the_request() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let folder = TempFolder::new("token");
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token").expect("a file");
    service.gives(&Keys::new("ONE", HOUR.as_secs()));
    let mut all = with_credentials(&store, web_identity(&service, &file.display().to_string()));
    all["ReverseProxy"]["Routes"]["stream"]["Transforms"][0]["PresignedUrl"]["DirectoryListing"] = json!(true);
    let gate = Gate::start(&all).await;
    service.gives(&Keys::new("TWO", HOUR.as_secs()));
    store.script([ENDED]);
    assert_eq!(gate.client().get(TRACK, &[]).await.is(200).text(), "sound");
    let seen = store.take_seen();
    assert_eq!(token_of(&seen[1]).as_deref(), Some("token-of-TWO"));
}
