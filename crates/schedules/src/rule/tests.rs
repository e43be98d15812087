use proptest::prelude::{prop_assert, proptest};

use super::*;

fn cron(text: &str) -> RuleText {
    RuleText { cron: Some(text.to_owned()), ..RuleText::default() }
}

fn once(text: &str) -> RuleText {
    RuleText { run_at: Some(text.to_owned()), ..RuleText::default() }
}

fn recurrence(kind: &str, time: &str, days: Option<&[&str]>) -> RuleText {
    let days = days.map(|days| days.iter().map(|day| (*day).to_owned()).collect());
    RuleText { recurrence: Some(kind.to_owned()), time: Some(time.to_owned()), days, ..RuleText::default() }
}

fn millis(text: &str) -> UnixMillis {
    UnixMillis::new(text.parse::<Timestamp>().expect("a time").as_millisecond())
}

/// Instants as `YYYY-MM-DDTHH:MMZ`.
fn shown(instants: &[UnixMillis]) -> Vec<String> {
    let shown = |at: &UnixMillis| Timestamp::from_millisecond(at.as_millis()).expect("a time").to_string();
    instants.iter().map(shown).map(|text| text.replace(":00Z", "Z")).collect()
}

/// Zone, expression, beginning, and the next instants: computed by another program (Python's zoneinfo, a walk over all minutes of
/// the time in question that compares what the zone's clocks show).
const CHANGES_OF_CLOCKS: &[(&str, &str, &str, &[&str])] = &[
    (
        "Europe/Kyiv",
        "30 3 * * *",
        "2026-03-27T12:00:00Z",
        &["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z", "2026-03-31T00:30Z"],
    ),
    (
        "Europe/Kyiv",
        "30 3 * * *",
        "2026-10-23T12:00:00Z",
        &["2026-10-24T00:30Z", "2026-10-25T00:30Z", "2026-10-26T01:30Z", "2026-10-27T01:30Z"],
    ),
    (
        "Europe/Kyiv",
        "*/30 3 * * *",
        "2026-03-28T12:00:00Z",
        &["2026-03-30T00:00Z", "2026-03-30T00:30Z", "2026-03-31T00:00Z"],
    ),
    (
        "Europe/Kyiv",
        "*/30 3 * * *",
        "2026-10-24T12:00:00Z",
        &[
            "2026-10-25T00:00Z",
            "2026-10-25T00:30Z",
            "2026-10-25T01:00Z",
            "2026-10-25T01:30Z",
            "2026-10-26T01:00Z",
            "2026-10-26T01:30Z",
        ],
    ),
    (
        "America/Sao_Paulo",
        "0 0 * * *",
        "2018-11-02T12:00:00Z",
        &["2018-11-03T03:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z", "2018-11-06T02:00Z"],
    ),
    (
        "America/Sao_Paulo",
        "30 23 * * *",
        "2018-02-16T12:00:00Z",
        &["2018-02-17T01:30Z", "2018-02-18T01:30Z", "2018-02-19T02:30Z", "2018-02-20T02:30Z"],
    ),
    (
        "America/Sao_Paulo",
        "*/30 23 * * *",
        "2018-02-17T12:00:00Z",
        &[
            "2018-02-18T01:00Z",
            "2018-02-18T01:30Z",
            "2018-02-18T02:00Z",
            "2018-02-18T02:30Z",
            "2018-02-19T02:00Z",
            "2018-02-19T02:30Z",
        ],
    ),
    ("America/Sao_Paulo", "15 0 * * SUN", "2018-11-01T00:00:00Z", &["2018-11-04T03:00Z"]),
    (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-02T00:00:00Z",
        &["2026-10-02T15:45Z", "2026-10-03T15:30Z", "2026-10-04T15:15Z", "2026-10-05T15:15Z"],
    ),
    (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-03T00:00:00Z",
        &["2026-04-03T14:45Z", "2026-04-04T14:45Z", "2026-04-05T15:15Z", "2026-04-06T15:15Z"],
    ),
    (
        "Australia/Lord_Howe",
        "*/15 1 * * *",
        "2026-04-04T12:00:00Z",
        &[
            "2026-04-04T14:00Z",
            "2026-04-04T14:15Z",
            "2026-04-04T14:30Z",
            "2026-04-04T14:45Z",
            "2026-04-04T15:00Z",
            "2026-04-04T15:15Z",
            "2026-04-05T14:30Z",
        ],
    ),
    (
        "Australia/Lord_Howe",
        "*/15 2 * * *",
        "2026-10-03T12:00:00Z",
        &["2026-10-03T15:30Z", "2026-10-03T15:45Z", "2026-10-04T15:00Z"],
    ),
    (
        "Pacific/Chatham",
        "0 3 * * *",
        "2026-09-25T00:00:00Z",
        &["2026-09-25T14:15Z", "2026-09-26T14:00Z", "2026-09-27T13:15Z", "2026-09-28T13:15Z"],
    ),
    (
        "Pacific/Chatham",
        "0 3 * * *",
        "2026-04-03T00:00:00Z",
        &["2026-04-03T13:15Z", "2026-04-04T13:15Z", "2026-04-05T14:15Z", "2026-04-06T14:15Z"],
    ),
    (
        "Pacific/Chatham",
        "*/15 3 * * *",
        "2026-04-04T12:00:00Z",
        &[
            "2026-04-04T13:15Z",
            "2026-04-04T13:30Z",
            "2026-04-04T13:45Z",
            "2026-04-04T14:15Z",
            "2026-04-04T14:30Z",
            "2026-04-04T14:45Z",
            "2026-04-04T15:00Z",
            "2026-04-05T14:15Z",
        ],
    ),
    (
        "Pacific/Chatham",
        "*/15 3 * * *",
        "2026-09-26T12:00:00Z",
        &["2026-09-26T14:00Z", "2026-09-27T13:15Z", "2026-09-27T13:30Z"],
    ),
];

#[test]
fn changes_of_clocks_are_as_another_program_reckons_them() {
    for (zone, text, from, expected) in CHANGES_OF_CLOCKS {
        let times = ScheduleTimes::parse(zone, &cron(text)).expect("a rule");
        assert_eq!(shown(&times.preview(millis(from), expected.len())), *expected, "{zone} {text} from {from}");
    }
}

#[test]
fn recurrences_are_those_of_their_expressions() {
    let (from, zone) = (millis("2026-03-26T12:00:00Z"), "Europe/Kyiv");
    for (rule, text) in [
        (recurrence("daily", "03:30", None), "30 3 * * *"),
        (recurrence("daily", "18:30:15", None), "15 30 18 * * *"),
        (recurrence("weekly", "03:30", Some(&["sun"])), "30 3 * * SUN"),
        (recurrence("weekly", "00:00", Some(&["mon", "fri", "sat"])), "0 0 * * 1,5,6"),
    ] {
        let preview = |rule: &RuleText| ScheduleTimes::parse(zone, rule).expect("a rule").preview(from, 6);
        assert_eq!(preview(&rule), preview(&cron(text)), "{rule:?}");
    }
}

#[test]
fn a_single_time_is_an_instant_or_one_of_the_zones_clocks() {
    for (zone, text, at) in [
        ("Europe/Kyiv", "2026-03-29T03:30:00+02:00", "2026-03-29T01:30:00Z"),
        ("Europe/Kyiv", "2026-01-31T18:00:00Z", "2026-01-31T18:00:00Z"),
        ("Europe/Kyiv", "2026-01-31T18:00", "2026-01-31T16:00:00Z"),
        // In a gap: its end. Of two passes the first.
        ("Europe/Kyiv", "2026-03-29T03:30", "2026-03-29T01:00:00Z"),
        ("Europe/Kyiv", "2026-10-25T03:30", "2026-10-25T00:30:00Z"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30:00Z"),
        ("Pacific/Chatham", "2026-09-27T02:50", "2026-09-26T14:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04T03:00:00Z"),
    ] {
        let times = ScheduleTimes::parse(zone, &once(text)).expect("a rule");
        assert_eq!(times.preview(millis("2000-01-01T00:00:00Z"), 3), [millis(at)], "{zone} {text}");
        assert_eq!(times.next_after(millis(at)), None);
    }
}

#[test]
fn what_is_no_rule_is_refused() {
    let bad_cron = |text: &str| (cron(text), "BadCron");
    let many = "1,".repeat(64);
    for (rule, expected) in [
        bad_cron(""),
        bad_cron("* * * *"),
        bad_cron("60 * * * *"),
        bad_cron("* * * * * * * *"),
        bad_cron("* * * * MOON"),
        bad_cron("*/0 * * * *"),
        bad_cron("ж * * * *"),
        bad_cron("0 0\n* * *"),
        bad_cron(&many),
        (once("tomorrow"), "BadTime"),
        (once("2026-02-30T00:00"), "BadTime"),
        (once("2026-01-31T25:00"), "BadTime"),
        (once(""), "BadTime"),
        (RuleText::default(), "NotOne"),
        (RuleText { run_at: Some("2026-01-31T18:00Z".into()), ..cron("* * * * *") }, "NotOne"),
        (RuleText { time: Some("18:00".into()), ..cron("* * * * *") }, "BadTimeOfDay"),
        (RuleText { days: Some(vec!["mon".into()]), ..once("2026-01-31T18:00Z") }, "BadDays"),
        (recurrence("monthly", "18:00", None), "BadRecurrence"),
        (recurrence("daily", "24:00", None), "BadTimeOfDay"),
        (recurrence("daily", "18", None), "BadTimeOfDay"),
        (recurrence("daily", "18:00:00.5", None), "BadTimeOfDay"),
        (recurrence("daily", "18:00", Some(&["mon"])), "BadDays"),
        (recurrence("weekly", "18:00", None), "BadDays"),
        (recurrence("weekly", "18:00", Some(&[])), "BadDays"),
        (recurrence("weekly", "18:00", Some(&["mon", "mon"])), "BadDays"),
        (recurrence("weekly", "18:00", Some(&["Monday"])), "BadDays"),
    ] {
        let error = ScheduleTimes::parse("UTC", &rule).expect_err("it is no rule");
        assert!(format!("{error:?}").starts_with(expected), "{rule:?}: {error:?}");
    }
    for zone in ["Mars/Base", "", "Europe/", "../etc/passwd", "Europe/Kyiv\0", "+02:00", &"A".repeat(65)] {
        let error = ScheduleTimes::parse(zone, &cron("* * * * *")).expect_err("it is no zone");
        assert_eq!(error, RuleError::NoZone, "{zone}");
    }
}

#[test]
fn zones_are_named_as_the_database_spells_them() {
    for (zone, name) in [("europe/kyiv", "Europe/Kyiv"), ("UTC", "UTC"), ("America/Sao_Paulo", "America/Sao_Paulo")] {
        let times = ScheduleTimes::parse(zone, &cron("* * * * *")).expect("a rule");
        assert_eq!(times.zone_name(), name);
    }
}

#[test]
fn the_least_time_between_two_instants_is_told() {
    let from = millis("2026-01-01T00:00:00Z");
    for (text, seconds) in [
        ("* * * * * *", Some(1)),
        ("*/30 * * * * *", Some(30)),
        ("0,1 0 0 1 1 *", Some(1)),
        ("* * * * *", Some(60)),
        ("0,5 3 * * *", Some(300)),
        ("@hourly", Some(3600)),
        ("0 0 0 1 1 * 2030", None),
    ] {
        let times = ScheduleTimes::parse("UTC", &cron(text));
        let times = times.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(times.least_interval(from), seconds.map(Duration::from_secs), "{text}");
    }
}

#[test]
fn what_never_comes_ends_its_search() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 1 1 * 2020"] {
        let times = ScheduleTimes::parse("Pacific/Chatham", &cron(text)).expect("a rule");
        assert_eq!(times.next_after(millis("2026-01-01T00:00:00Z")), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "[0-9*,/LW#?A-Za-z @-]{0,40}", zone in "[A-Za-z/_+-]{0,20}", time in ".{0,30}") {
        for rule in [cron(&text), once(&time), recurrence("daily", &time, None), recurrence("weekly", &time, Some(&[&text]))] {
            for zone in [zone.as_str(), "Australia/Lord_Howe"] {
                if let Ok(times) = ScheduleTimes::parse(zone, &rule) {
                    let from = millis("2026-01-01T00:00:00Z");
                    let preview = times.preview(from, 5);
                    prop_assert!(preview.iter().all(|at| *at > from) && preview.is_sorted());
                }
            }
        }
    }
}
