//! Voice messages and audio files.

use super::stand_in::Fault;
use super::*;

/// Message with a voice note.
fn voice(file: &str, size: u64) -> Value {
    json!({ "voice": { "file_id": file, "file_unique_id": "u", "duration": 3, "file_size": size } })
}

async fn send_voice(api: &BotApiStandIn, user: i64, file: &str, size: u64) -> String {
    let before = api.sent_to(user).len();
    api.message(user, "en", voice(file, size));
    api.message_to(user, before + 1).await
}

#[tokio::test]
async fn files_are_fetched_within_their_bounds_and_recognised_by_the_api() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let mut config = telegram(&api.url(), &folder, &sqlite(&folder));
    config["Recognition"] = json!({ "Index": folder.path().join("index") });
    let gate = start(&config).await;
    api.put_file("text", b"no sound at all".to_vec(), 15);
    api.put_file("large", vec![0; (10 << 20) + 1], 15);
    assert!(send_voice(&api, ADA, "text", 15).await.contains("not linked"));
    assert!(api.calls("getFile").is_empty(), "nothing is fetched for who is not linked");
    link(&api, &gate, &bearer("ada"), ADA).await;
    assert!(send_voice(&api, ADA, "huge", (10 << 20) + 1).await.contains("larger than 10 MB"));
    assert!(api.calls("getFile").is_empty(), "what says that it is too large is not fetched");
    assert!(send_voice(&api, ADA, "large", 15).await.contains("larger than 10 MB"), "whatever it says");
    assert!(send_voice(&api, ADA, "gone", 15).await.contains("cannot be fetched"));
    api.fault("file", Fault::Cut);
    api.fault("getFile", Fault::Broken);
    let answer = send_voice(&api, ADA, "text", 15).await;
    let refused = ["This cannot be done: ", "This does not work at the moment."];
    assert!(refused.iter().any(|text| answer.starts_with(text)), "it came to recognition: {answer}");
    for _ in 0..3 {
        api.fault("file", Fault::Cut);
    }
    assert!(send_voice(&api, ADA, "text", 15).await.contains("cannot be fetched"));
    api.check();
}
