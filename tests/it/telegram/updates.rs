//! Updates that come twice, late and over a restart, and a Bot API that asks to wait, breaks and is cut off.

use super::stand_in::Fault;
use super::*;
use crate::support::eventually;

/// Number of changes that this process has made for users, of this kind or any.
async fn changes(gate: &Gate, kind: &str) -> f64 {
    gate.metric("tidegate_players_changes_total", kind).await
}

#[tokio::test]
async fn an_update_is_done_once_however_often_and_late_it_comes() {
    let folder = TempFolder::new("telegram");
    let (api, gate) = bot(&folder).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    api.shuffle();
    let first = api.say(ADA, "/speed 1.25");
    let second = api.say(ADA, "/speed 1.5");
    let third = api.say(ADA, "/speed 2");
    assert_eq!(api.message_to(ADA, 4).await, "Speed: 2×");
    for update in [third, first, second] {
        api.push(update);
    }
    // What comes after them has been done after them.
    assert_eq!(api.ask(ADA, "/pitch 1").await, "Pitch: 1 semitones");
    assert_eq!(api.sent_to(ADA)[1..4], ["Speed: 1.25×", "Speed: 1.5×", "Speed: 2×"], "in the order of their ids");
    assert_eq!(changes(&gate, "").await, 4.0);
    assert!(gate.metric("tidegate_telegram_updates_total", "outcome=\"repeated\"").await >= 3.0);
    api.check();
}

#[tokio::test]
async fn a_killed_process_loses_no_update_and_does_none_twice() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let config = telegram(&api.url(), &folder, &sqlite(&folder));
    let gate = start(&config).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    // The first is done, and its answer must wait; the second waits behind it.
    api.fault("sendMessage", Fault::Limited(3000));
    let first = api.say(ADA, "/speed 1.25");
    eventually("the answer is refused", async || (api.calls("sendMessage").len() == 2).then_some(())).await;
    let second = api.say(ADA, "/pitch 3");
    let last = second["update_id"].as_i64().expect("an id");
    let is_confirmed = || api.calls("getUpdates").iter().any(|call| call.request["offset"].as_i64() > Some(last));
    eventually("both are kept", async || is_confirmed().then_some(())).await;
    assert_eq!(changes(&gate, "").await, 1.0, "the second has not begun");
    // SIGKILL.
    drop(gate);
    api.push(first);
    api.push(second);
    let gate = start(&config).await;
    assert!(api.message_to(ADA, 2).await.contains("may not have been done"));
    assert_eq!(api.message_to(ADA, 3).await, "Pitch: 3 semitones");
    let now = settings(&gate, "ada").await;
    assert_eq!((&now["speed"], &now["semitones"]), (&json!(1.25), &json!(3)));
    assert_eq!((changes(&gate, "").await, changes(&gate, "kind=\"pitch\"").await), (1.0, 1.0), "the first not again");
    assert_eq!(api.ask(ADA, "/speed").await, "Speed: 1.25×");
    assert_eq!(api.sent_to(ADA).len(), 4);
    assert_eq!(gate.metric("tidegate_telegram_updates_total", "outcome=\"interrupted\"").await, 1.0);
}

#[tokio::test]
async fn one_of_two_nodes_has_the_bot_and_the_other_takes_over() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let config = telegram(&api.url(), &folder, &sqlite(&folder));
    let (one, two) = (start(&config).await, start(&config).await);
    link(&api, &one, &bearer("ada"), ADA).await;
    let holds = async |gate: &Gate| gate.metric("tidegate_telegram_holds_bot", "").await == 1.0;
    let (first, other) = if holds(&one).await { (one, two) } else { (two, one) };
    assert!(!holds(&other).await);
    drop(first);
    assert_eq!(api.ask(ADA, "/speed 2").await, "Speed: 2×");
    eventually("the other has the bot", async || holds(&other).await.then_some(())).await;
    assert_eq!(api.sent_to(ADA).len(), 2);
}

#[tokio::test]
async fn a_bot_api_that_asks_to_wait_breaks_or_is_cut_off_is_asked_again() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    for method in ["deleteWebhook", "getMe", "getUpdates", "setMyCommands"] {
        api.fault(method, Fault::Cut);
        api.fault(method, Fault::Broken);
        api.fault(method, Fault::Limited(1));
    }
    let gate = start(&telegram(&api.url(), &folder, &sqlite(&folder))).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    for fault in [Fault::Limited(1), Fault::Broken, Fault::Cut] {
        api.fault("sendMessage", fault.clone());
        let before = api.calls("sendMessage").len();
        assert_eq!(api.ask(ADA, "/speed 1.5").await, "Speed: 1.5×", "{fault:?}");
        assert_eq!(api.calls("sendMessage").len(), before + 2, "{fault:?}");
    }
    // One that was taken and cut off may come twice; what it answers is done once.
    let before = changes(&gate, "").await;
    let sent = api.sent_to(ADA).len();
    api.fault("sendMessage", Fault::CutWhenDone);
    api.say(ADA, "/pitch 1");
    api.message_to(ADA, sent + 2).await;
    assert_eq!(changes(&gate, "").await, before + 1.0);
    // Who has blocked the bot is not written to again, and holds up nobody.
    api.fault("sendMessage", Fault::Refused(403, "Forbidden: bot was blocked by the user"));
    let before = api.calls("sendMessage").len();
    api.say(ADA, "/speed 2");
    // Her answer may wait for its turn, and the refusal is hers.
    eventually("she was written to", async || (api.calls("sendMessage").len() == before + 1).then_some(())).await;
    assert!(api.ask(BOB, "/help").await.contains("not linked"));
    eventually("both were written to", async || (api.calls("sendMessage").len() == before + 2).then_some(())).await;
    assert_eq!(settings(&gate, "ada").await["speed"], json!(2.0));
    eventually("the lists of commands are set", async || (api.done("setMyCommands").len() == 5).then_some(())).await;
    api.check();
}

#[tokio::test]
async fn the_token_is_in_no_log_and_no_answer() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    for method in ["deleteWebhook", "getMe", "getUpdates"] {
        api.fault(method, Fault::Cut);
        api.fault(method, Fault::Refused(404, "Not Found: bot4839574812:AAFD39kkdpWt3ywyRZergyOLMaJhac60qcK"));
    }
    let gate = start(&telegram(&api.url(), &folder, &sqlite(&folder))).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    let secret = TOKEN.split(':').nth(1).expect("a secret");
    for text in [gate.log(), gate.metrics().await, api.sent_to(ADA).join("\n")] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(gate.log().contains("a call of the Bot API is not done"), "it says what is wrong");
}
