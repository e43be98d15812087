//! What stands in the way of a film, as the page says it: no token, no subscription, no such film, a session that has ended.

use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};

use super::{Cinema, MOVIE};
use crate::films::{UserService, Viewer, json_of};
use crate::support::{Redis, eventually, in_time, token, tools};

/// What the page says.
const NOTICE: &str = r#"
    await until("a notice", () => !element("notice").hidden);
    return { title: element("notice-title").textContent, player: element("player").hidden, paused: video.paused,
        again: element("again").hidden ? null : element("again").textContent };
"#;

async fn revoke(cinema: &Cinema, user: &str) {
    let path = format!("/api/v1/admin/stream-sessions?user_id={user}");
    Viewer::admin(&cinema.gate).send(Method::DELETE, &path, None).await.is(204);
}

#[tokio::test]
async fn a_token_that_is_typed_in_opens_the_film_and_is_written_nowhere() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.visit("").await;
    let good = token::of("ada");
    let asked = cinema
        .run(r#"await state("signin"); return [element("signin-refused").hidden, element("player").hidden];"#)
        .await;
    assert_eq!(asked, json!([true, true]));
    let give = |token: &str| format!("element('token').value = {}; element('signin').requestSubmit();", json!(token));
    let refused = format!(
        "{} await until('a refusal', () => !element('signin-refused').hidden); return element('token').value;",
        give("wrong")
    );
    assert_eq!(cinema.run(&refused).await, json!(""));
    let kept = format!(
        "{} await plays(); return JSON.stringify([localStorage, sessionStorage, document.cookie, location.href, \
         document.documentElement.outerHTML, performance.getEntries().map(({{ name }}) => name)]);",
        give(&good)
    );
    let kept = cinema.run(&kept).await;
    assert!(!kept.to_string().contains(&good) && !cinema.gate.log().contains(&good), "the token is kept");
    assert!(!cinema.gate.log().contains("/v/A"), "a grant is in the log");
    // A list alone needs a token too.
    cinema.browser.open(&format!("{}/watch/", cinema.gate.url())).await;
    let listed =
        format!(r#"await state("signin"); {} await state("list"); return element("continue").hidden;"#, give(&good));
    assert_eq!(cinema.run(&listed).await, json!(false));
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_film_that_is_paused_while_it_loads_says_that_it_is_paused() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    // The second one waits for data first, as after a jump to the first picture.
    for before in ["", r#"video.dispatchEvent(new Event("waiting"));"#] {
        cinema.visit("").await;
        // After the page's own listener, which has it play.
        let begin = format!(
            r#"await state("signin");
               video.addEventListener("loadedmetadata", () => {{ {before} video.pause(); }}, {{ once: true }});
               element("token").value = {}; element("signin").requestSubmit();
               await state("paused"); await until("something to play", () => video.readyState > 2);
               return document.body.dataset.state;"#,
            json!(token::of("ada"))
        );
        assert_eq!(cinema.run(&begin).await, json!("paused"));
        let plays =
            r#"element("play").click(); await plays(); await state("playing"); sessionStorage.clear(); return null;"#;
        cinema.run(plays).await;
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn who_has_no_subscription_and_who_asks_for_no_film_is_told_so_and_loads_no_player() {
    let users = UserService::start().await;
    users.says("ada", 200, json!({ "active": false }));
    users.says("bob", 200, json!({ "active": true }));
    let template = users.template();
    let with_users = |config: &mut Value| {
        config["Vod"]["Subscription"] = json!({ "Url": template, "DenyCacheFor": "0s" });
    };
    let Some(cinema) = Cinema::open(with_users).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    let told = cinema.run(NOTICE).await;
    assert_eq!(
        told,
        json!({ "title": "No active subscription", "player": true, "paused": true, "again": "Try again" })
    );
    let loaded = cinema.run("return loaded().filter(name => /hls|shaka/.test(name));").await;
    assert_eq!(loaded, json!([]), "no player is loaded");
    // Who has just paid gets in.
    users.says("ada", 200, json!({ "active": true }));
    cinema.run(r#"element("again").click(); await plays(); return null;"#).await;
    cinema.browser.open(&format!("{}/watch/none", cinema.gate.url())).await;
    assert_eq!(cinema.run(NOTICE).await["title"], "There is no such film");
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_revoked_session_stops_on_the_page_though_it_has_minutes_ahead_and_the_page_says_why() {
    let Some(cinema) = Cinema::open(|_| {}).await else { return };
    cinema.sign_in("ada").await;
    for query in ["?player=hls", "?manifest=dash"] {
        cinema.visit(query).await;
        cinema.run(r#"await plays(); await until("20 s ahead", () => ahead() > 20); return null;"#).await;
        cinema
            .run("window.most = 0; setInterval(() => { if (!video.paused) window.left = ahead(); }, 50); return null;")
            .await;
        revoke(&cinema, "ada").await;
        let told = cinema.run(NOTICE).await;
        assert_eq!(
            (&told["title"], &told["player"], &told["paused"]),
            (&json!("Access was taken back"), &json!(true), &json!(true))
        );
        let left = cinema.run("return window.left;").await;
        assert!(left.as_f64().is_some_and(|left| left > 5.0), "it stopped since it ran dry: {left}");
        let at = cinema.position_becomes("ada", "the place is kept", |at| at > 0).await;
        let again = cinema.run(r#"element("again").click(); await plays(); return video.currentTime;"#).await;
        assert!(again.as_f64().is_some_and(|now| now + 1.0 > at as f64), "it goes on where it stopped: {again} {at}");
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_session_that_has_expired_is_replaced_by_another_one_at_the_same_place() {
    let Some(redis) = Redis::start() else { return };
    let Some(cinema) = Cinema::open(|config| config["State"]["Url"] = json!(redis.url())).await else { return };
    cinema.sign_in("ada").await;
    for query in ["?player=hls", "?manifest=dash"] {
        cinema.visit(query).await;
        cinema.run("await plays(); seek(20); await past(20.5); return null;").await;
        let starts = async || cinema.gate.metric("tidegate_vod_starts_total", "outcome=\"started\"").await;
        let begun = starts().await;
        // As if the hour were over: nobody knows the session any more.
        let known = redis.ask("KEYS vod.session:*");
        let session = known.split_whitespace().find(|word| word.starts_with("vod.session:")).expect("a session");
        redis.ask(&format!("DEL {session}"));
        eventually("another session", async || (starts().await == begun + 1.0).then_some(())).await;
        let at = cinema.run(r#"await plays(); return element("notice").hidden && video.currentTime;"#).await;
        assert!(at.as_f64().is_some_and(|at| (20.0..60.0).contains(&at)), "{query}: {at}");
        revoke(&cinema, "ada").await;
        redis.ask("FLUSHALL");
    }
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_film_that_is_longer_than_the_time_of_its_grant_plays_on() {
    /// More than the shortest time that a grant can have, in seconds.
    const LONG: u32 = 68;
    let Some(ffmpeg) = tools::find("ffmpeg") else { return };
    let Some(redis) = Redis::start() else { return };
    let with_redis = |config: &mut Value| {
        config["Vod"]["Grant"] = json!({ "Ttl": "1m" });
        config["State"] = json!({ "Url": redis.url() });
    };
    let Some(cinema) = Cinema::open(with_redis).await else { return };
    let viewer = Viewer::new(&cinema.gate, "bob");
    let started = json_of(viewer.start(MOVIE).await.is(200));
    assert_eq!(started["expires_in"], 60);
    let url = started["manifest_url"].as_str().expect("a URL").to_owned();
    // A player that reports nothing: what it fetches keeps its session.
    let by_url = async {
        let output = tokio::process::Command::new(ffmpeg)
            .args(["-v", "error", "-re", "-i", &url, "-map", "0:v:0", "-t", &LONG.to_string(), "-f", "framemd5", "-"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = in_time("the film has been played", output).await.expect("ffmpeg starts");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let pictures = String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(pictures, 10 * LONG as usize, "every picture");
    };
    let by_page = async {
        cinema.sign_in("ada").await;
        cinema.visit("?player=hls").await;
        let at = cinema.run(&format!("await plays(); await past({LONG}); return await plays();")).await;
        assert!(at.as_f64().is_some_and(|at| at > f64::from(LONG)), "{at}");
    };
    tokio::join!(by_url, by_page);
    let lines = cinema.gate.access_lines();
    let starts =
        lines.iter().filter(|line| line["path"] == format!("/api/v1/stream/{MOVIE}") && line["method"] == "POST");
    assert_eq!(starts.count(), 2, "each was started once");
    let is_refused = |line: &&Value| [401, 403].contains(&line["status"].as_u64().unwrap_or(0));
    let refused = lines.iter().filter(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/v/")));
    let refused = refused.filter(is_refused);
    assert_eq!(refused.collect::<Vec<_>>(), [&Value::Null; 0]);
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_film_that_gave_way_to_another_device_says_so_and_can_be_taken_back() {
    let Some(cinema) = Cinema::open(|config| config["Vod"]["MaxStreamsPerUser"] = json!(1)).await else { return };
    cinema.sign_in("ada").await;
    cinema.visit("").await;
    cinema.run("await plays(); await past(1); return null;").await;
    let other = Viewer::new(&cinema.gate, "ada");
    // A start counts as use for a while: the page's is not ended at once.
    let told = eventually("another device takes over", async || {
        other.start(MOVIE).await.is(200);
        let hidden = cinema.run(r#"return element("notice").hidden;"#).await;
        (hidden == json!(false)).then_some(())
    });
    told.await;
    let told = cinema.run(NOTICE).await;
    assert_eq!((&told["title"], &told["again"]), (&json!("You are watching somewhere else"), &json!("Watch here")));
    cinema.run(r#"element("again").click(); await plays(); return null;"#).await;
    cinema.browser.close().await;
}

#[tokio::test]
async fn a_subscription_that_ends_during_a_film_lets_it_play_to_its_end() {
    let users = UserService::start().await;
    let template = users.template();
    let with_users = |config: &mut Value| {
        let times = json!({ "Url": template, "CacheFor": "0s", "DenyCacheFor": "0s", "RecheckInterval": "10s" });
        config["Vod"]["Subscription"] = times;
    };
    let Some(cinema) = Cinema::open(with_users).await else { return };
    let ended = "a subscription has ended while a film plays";
    for (number, (user, query)) in [("ada", "?player=hls"), ("bob", "?manifest=dash")].into_iter().enumerate() {
        users.says(user, 200, json!({ "active": true }));
        cinema.sign_in(user).await;
        cinema.visit(query).await;
        cinema.run("await plays(); return null;").await;
        users.says(user, 200, json!({ "active": false }));
        eventually("the log says that it is not extended", async || {
            (cinema.gate.log().matches(ended).count() > number).then_some(())
        })
        .await;
        // A part that was not loaded yet.
        let seen = r#"
            await plays();
            seek(117);
            await state("ended");
            return [element("notice").hidden, element("start").textContent];
        "#;
        assert_eq!(cinema.run(seen).await, json!([true, "Watch again"]), "{query}");
        cinema.run(r#"element("start").click(); return null;"#).await;
        assert_eq!(cinema.run(NOTICE).await["title"], "No active subscription", "{query}");
    }
    cinema.browser.close().await;
}
