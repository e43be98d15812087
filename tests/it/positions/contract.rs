//! What holds wherever positions are kept.

use http::Method;
use serde_json::{Value, json};

use super::{Player, Postgres, Redis, base, in_a_file, path};
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, token};

/// Items per user at most.
const MAX_ITEMS: i64 = 300;

#[tokio::test]
async fn positions_in_a_file() {
    let folder = TempFolder::new("positions");
    holds(&in_a_file(&folder)).await;
}

#[tokio::test]
async fn positions_in_postgresql() {
    let Some(url) = Postgres::database().await else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(url);
    holds(&config).await;
}

#[tokio::test]
async fn positions_in_redis_alone() {
    let Some(redis) = Redis::start() else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["State"] = json!({ "Url": redis.url(), "Prefix": "tide:" });
    holds(&config).await;
    assert!(redis.ask("EXISTS tide:player:first:rewound").contains(":1"));
    assert!(redis.ask("EXISTS tide:player:hoarder:item-049 tide:player:hoarder:item-050").starts_with(":1"));
    assert!(redis.ask("ZCARD tide:player.items:hoarder").starts_with(":300"));
    let ttl = redis.ask("TTL tide:player:first:rewound");
    let seconds: i64 = ttl.lines().next().and_then(|line| line[1..].parse().ok()).expect("a number");
    assert!((2_591_900..=2_592_000).contains(&seconds), "kept for {seconds} s, not 30 days");
}

#[tokio::test]
async fn positions_in_postgresql_with_redis_before_it() {
    let (Some(url), Some(redis)) = (Postgres::database().await, Redis::start()) else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["Database"]["Url"] = json!(url);
    config["State"]["Url"] = json!(redis.url());
    holds(&config).await;
    assert!(redis.ask("EXISTS player:first:rewound").contains(":1"));
    assert!(redis.ask("EXISTS player:hoarder:item-049 player:hoarder:item-050").starts_with(":1"));
}

async fn holds(config: &Value) {
    let mut config = config.clone();
    config["Positions"]["MaxItemsPerUser"] = json!(MAX_ITEMS);
    let gate = Gate::start(&config).await;
    let player = Player::new(&gate, "first");
    what_was_saved_is_read(&player).await;
    the_newer_time_wins(&player).await;
    a_report_that_comes_late_is_given_out(&player).await;
    a_cleared_position_stays_cleared(&player).await;
    of_many_at_once_the_newest_stays(&player).await;
    nobody_sees_anothers(&gate).await;
    a_kind_has_a_position_of_its_own(&Player::new(&gate, "kinds")).await;
    what_can_be_continued_is_listed(&Player::new(&gate, "lister")).await;
    items_of_one_time_are_listed_once_each(&Player::new(&gate, "offline")).await;
    of_too_many_items_the_oldest_are_dropped(&gate).await;
}

async fn what_was_saved_is_read(player: &Player) {
    assert_eq!(player.get("rewound").await, None);
    for position in [93_500, 0, 12] {
        player.save("rewound", json!({ "positionMs": position })).await;
        assert_eq!(player.get("rewound").await, Some(position), "a smaller position is a rewind");
    }
    player.save("%C3%BC%20%2F%25", json!({ "positionMs": 5, "durationMs": null })).await;
    assert_eq!(player.get("%C3%BC%20%2F%25").await, Some(5));
}

async fn the_newer_time_wins(player: &Player) {
    let now = token::now() * 1000;
    player.save("t", json!({ "positionMs": 1, "timestamp": now - 5000 })).await;
    player.save("t", json!({ "positionMs": 2, "timestamp": now - 6000 })).await;
    assert_eq!(player.get("t").await, Some(1), "an older report came late");
    player.save("t", json!({ "positionMs": 3, "timestamp": now - 4000 })).await;
    assert_eq!(player.get("t").await, Some(3));
    player.save("t", json!({ "positionMs": 4, "timestamp": "2001-01-01T00:00:00+02:00" })).await;
    assert_eq!(player.get("t").await, Some(3), "an older report came late");
    player.save("t", json!({ "positionMs": 5, "timestamp": now + 86_400_000 })).await;
    assert_eq!(player.get("t").await, Some(5));
    player.save("t", json!({ "positionMs": 6 })).await;
    assert_eq!(player.get("t").await, Some(6), "a clock that is fast does not outlast the others");
}

/// A player that was offline for longer than `Ttl`, which runs from the report.
async fn a_report_that_comes_late_is_given_out(player: &Player) {
    let then = token::now() * 1000 - 40 * 86_400_000;
    player.save("late", json!({ "positionMs": 900_000, "durationMs": 3_600_000, "timestamp": then })).await;
    assert_eq!(player.get("late").await, Some(900_000));
    player.save("late", json!({ "positionMs": 1, "timestamp": then - 1 })).await;
    assert_eq!(player.get("late").await, Some(900_000), "an older report came late");
    assert!(player.progress("").await.0.contains(&"late".to_owned()));
    player.clear("late").await;
}

async fn a_cleared_position_stays_cleared(player: &Player) {
    let before = token::now() * 1000 - 60_000;
    player.clear("never").await;
    player.save("c", json!({ "positionMs": 7 })).await;
    player.clear("c").await;
    assert_eq!(player.get("c").await, None);
    player.save("c", json!({ "positionMs": 8, "timestamp": before })).await;
    assert_eq!(player.get("c").await, None, "an older report came late");
    player.save("c", json!({ "positionMs": 9 })).await;
    assert_eq!(player.get("c").await, Some(9));
}

async fn of_many_at_once_the_newest_stays(player: &Player) {
    let now = token::now() * 1000;
    let reports = (0..200).map(|number| {
        let shuffled = number * 77 % 200;
        player.save("many", json!({ "positionMs": shuffled, "timestamp": now - 1000 + shuffled }))
    });
    futures::future::join_all(reports).await;
    assert_eq!(player.get("many").await, Some(199));
}

async fn nobody_sees_anothers(gate: &Gate) {
    let (one, other) = (Player::new(gate, "a:b"), Player::new(gate, "a"));
    one.save("c", json!({ "positionMs": 1 })).await;
    assert_eq!(other.get("b:c").await, None);
    assert_eq!(other.get("c").await, None);
    assert_eq!(other.progress("").await.0, Vec::<String>::new());
}

async fn a_kind_has_a_position_of_its_own(player: &Player) {
    let of = |kind: &str| format!("{}?kind={kind}", path("song"));
    let get = async |path: &str| player.json(path).await["positionMs"].as_i64();
    for (number, kind) in ["audio", "audiobook", "podcast"].into_iter().enumerate() {
        player.save("song", json!({ "positionMs": 1000 + number, "kind": kind })).await;
    }
    assert_eq!(get(&path("song")).await, Some(1000), "audio is the default");
    player.send(Method::DELETE, &of("audiobook"), None).await.is(204);
    for (kind, expected) in [("audio", Some(1000)), ("audiobook", None), ("podcast", Some(1002))] {
        assert_eq!(get(&of(kind)).await, expected, "{kind}");
    }
    player.clear("song").await;
    assert_eq!((get(&of("audio")).await, get(&of("podcast")).await), (None, Some(1002)));
}

async fn what_can_be_continued_is_listed(player: &Player) {
    let (now, hour) = (token::now() * 1000, 3_600_000);
    for (index, (track, kind, position, duration)) in [
        ("tried", "audio", 100_000, json!(hour)),
        ("first", "audio", 1_000_000, json!(hour)),
        ("short", "audio", 100_000, json!(200_000)),
        ("finished", "audio", 3_500_000, json!(hour)),
        ("unknown", "audio", 1000, Value::Null),
        ("book", "audiobook", 3_500_000, json!(hour)),
        ("cleared", "audio", 1_000_000, json!(hour)),
        ("last", "podcast", 1_000_000, json!(hour)),
    ]
    .into_iter()
    .enumerate()
    {
        let at = now - 10_000 + 1000 * i64::try_from(index).expect("small");
        let body = json!({ "positionMs": position, "durationMs": duration, "kind": kind, "timestamp": at });
        player.save(track, body).await;
    }
    player.clear("cleared").await;
    assert_eq!(player.progress("").await, (["last", "book", "unknown", "first"].map(str::to_owned).to_vec(), None));
    assert_eq!(player.progress("kind=audiobook").await.0, ["book"]);
    // A report without a length leaves the length that was known.
    player.save("first", json!({ "positionMs": 3_590_000, "timestamp": now })).await;
    let (ids, cursor) = player.progress("limit=2").await;
    assert_eq!(ids, ["last", "book"]);
    let (ids, cursor) = player.progress(&format!("limit=2&cursor={}", cursor.expect("more"))).await;
    assert_eq!((ids, cursor), (vec!["unknown".to_owned()], None));
    let answer = player.json("/api/v1/progress?kind=podcast").await;
    let item = &answer["items"][0];
    assert_eq!((&item["positionMs"], &item["durationMs"]), (&json!(1_000_000), &json!(hour)));
    assert!(item["updatedAt"].as_str().is_some_and(|time| time.ends_with('Z')), "{item}");
}

/// As a player that was offline sends them: more than are read at once.
async fn items_of_one_time_are_listed_once_each(player: &Player) {
    let at = token::now() * 1000 - 1000;
    let body = json!({ "positionMs": 1000, "timestamp": at });
    let mut expected: Vec<String> = (0..260).map(|number| format!("item-{number:03}")).collect();
    futures::future::join_all(expected.iter().map(|item| player.save(item, body.clone()))).await;
    for (item, earlier) in [("before", -1), ("after", 1)] {
        player.save(item, json!({ "positionMs": 1000, "timestamp": at + earlier })).await;
        expected.push(item.to_owned());
    }
    for (limit, most_pages) in [(100, 4), (7, 40)] {
        let (mut listed, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (ids, next) = player.progress(&format!("limit={limit}{cursor}")).await;
            listed.extend(ids);
            pages += 1;
            let Some(next) = next else { break };
            assert!(pages < most_pages, "no end after {pages} pages of {limit}: {} items", listed.len());
            cursor = format!("&cursor={next}");
        }
        assert_eq!((&*listed[0], &**listed.last().expect("items")), ("after", "before"));
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected, "pages of {limit}");
    }
}

async fn of_too_many_items_the_oldest_are_dropped(gate: &Gate) {
    let (player, other) = (Player::new(gate, "hoarder"), Player::new(gate, "frugal"));
    let at = token::now() * 1000 - 10_000;
    let (item, body) = (|number: i64| format!("item-{number:03}"), |at| json!({ "positionMs": 1000, "timestamp": at }));
    other.save("only", body(at - 1_000_000)).await;
    let numbers: Vec<i64> = (0..MAX_ITEMS + 50).collect();
    for part in numbers.chunks(60) {
        let reports = part.iter().map(async |number| player.save(&item(*number), body(at + number)).await);
        futures::future::join_all(reports).await;
    }
    // What is kept already makes nothing older go.
    player.save(&item(MAX_ITEMS), body(at + 1000)).await;
    for number in [0, 49] {
        assert_eq!(player.get(&item(number)).await, None, "{number}");
    }
    for number in [50, 51, MAX_ITEMS, MAX_ITEMS + 49] {
        assert_eq!(player.get(&item(number)).await, Some(1000), "{number}");
    }
    // One that is older than all that are kept is taken, and dropped at once.
    player.save("older than all", body(at - 1)).await;
    assert_eq!(player.get("older than all").await, None);
    assert_eq!(other.get("only").await, Some(1000), "of others nothing is dropped");
    assert!(gate.metric("tidegate_positions_dropped_total", "").await >= 50.0);
    let (mut listed, mut cursor) = (0, String::new());
    loop {
        let (ids, next) = player.progress(&format!("limit=100{cursor}")).await;
        listed += ids.len();
        let Some(next) = next else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(listed, 300);
}

#[tokio::test]
async fn the_index_of_redis_forgets_items_that_have_expired() {
    let Some(redis) = Redis::start() else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let player = Player::new(&gate, "reader");
    for item in ["expired", "kept"] {
        player.save(item, json!({ "positionMs": 1000 })).await;
    }
    assert!(redis.ask("DEL player:reader:expired").starts_with(":1"));
    assert_eq!(player.progress("").await.0, ["kept"]);
    assert!(redis.ask("ZCARD player.items:reader").starts_with(":1"), "{}", redis.ask("ZCARD player.items:reader"));
    player.save("expired", json!({ "positionMs": 5 })).await;
    assert_eq!(player.progress("").await.0, ["expired", "kept"]);
}

#[tokio::test]
async fn a_key_that_redis_refuses_fails_alone() {
    let Some(redis) = Redis::start() else { return };
    let folder = TempFolder::new("positions");
    let mut config = base(&folder);
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    assert!(redis.ask("LPUSH player:evil:song x").starts_with(":1"));
    let (evil, good) = (Player::new(&gate, "evil"), Player::new(&gate, "good"));
    // Together, so that they are written together.
    for number in 0..10 {
        let saved = json!({ "positionMs": 1000 + number });
        let refused = (0..20).map(|_| evil.post("song", saved.clone()));
        let kept = (0..20).map(|item| good.post(if item == 0 { "song" } else { "other" }, saved.clone()));
        let (refused, kept) = futures::join!(futures::future::join_all(refused), futures::future::join_all(kept));
        for (status, replies) in [(503, refused), (204, kept)] {
            for reply in replies {
                reply.is(status);
            }
        }
    }
    assert_eq!(good.get("song").await, Some(1009));
    evil.save("another", json!({ "positionMs": 5 })).await;
    assert_eq!(evil.progress("").await.0, ["another"], "a list leaves out what cannot be read");
    assert!(redis.ask("LRANGE player:evil:song 0 9").contains("x"), "it is left as it is");
    assert!(gate.log().contains("Redis refuses to keep positions"));
}

#[tokio::test]
async fn what_is_no_position_is_refused_in_the_envelope() {
    let folder = TempFolder::new("positions");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let player = Player::new(&gate, "u");
    let good = json!({ "positionMs": 1 });
    for (track, body, status) in [
        ("t", json!({ "positionMs": -1 }), 422),
        ("t", json!({ "positionMs": i64::MAX }), 422),
        ("t", json!({ "positionMs": 1, "durationMs": 0 }), 422),
        ("t", json!({ "positionMs": 1, "timestamp": "yesterday" }), 400),
        ("t", json!({ "positionMs": 1, "timestamp": -1 }), 422),
        ("t", json!({ "positionMs": "1" }), 400),
        ("t", json!({}), 400),
        ("t", json!({ "positionMs": 1, "kind": "noise" }), 400),
        ("t", json!({ "positionMs": 1, "more": "x".repeat(5000) }), 413),
        (&"x".repeat(257), good.clone(), 400),
        ("a%00b", good.clone(), 400),
        ("a%FFb", good.clone(), 400),
    ] {
        let reply = player.post(track, body.clone()).await;
        assert_eq!(reply.problem(status)["status"], status, "{track}: {body}");
    }
    for (query, status) in [("limit=0", 422), ("limit=101", 422), ("cursor=x", 400), ("kind=noise", 400)] {
        player.send(Method::GET, &format!("/api/v1/progress?{query}"), None).await.problem(status);
    }
    let nobody = Player(ApiUser { authorization: "Bearer no".to_owned(), ..player.0.clone() });
    nobody.post("t", good).await.problem(401);
    let plain = player.0.client.request(Method::POST, &path("t")).header("authorization", &player.0.authorization);
    let response = plain.body("{\"positionMs\":1}").send().await.expect("an answer");
    assert_eq!(response.status(), 415);
    assert_eq!(player.get("t").await, None);
    let odd = Player::new(&gate, "a\u{0}b");
    odd.send(Method::GET, &path("t"), None).await.problem(401);
}
