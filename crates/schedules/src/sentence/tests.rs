use super::*;
use crate::rule::RuleText;

fn times(rule: &RuleText) -> ScheduleTimes {
    ScheduleTimes::parse("Europe/Kyiv", rule).expect("a rule")
}

fn cron(text: &str) -> ScheduleTimes {
    times(&RuleText { cron: Some(text.to_owned()), ..RuleText::default() })
}

fn said(times: &ScheduleTimes) -> [String; 4] {
    use SentenceLanguage::{English, Russian, Spanish, Ukrainian};
    [English, Russian, Ukrainian, Spanish].map(|language| {
        let sentence = describe(times, language);
        sentence.strip_suffix(" (Europe/Kyiv)").expect("the zone").to_owned()
    })
}

#[test]
fn each_language_has_its_own_sentence() {
    for (text, expected) in [
        ("* * * * *", ["Every minute.", "Каждую минуту.", "Щохвилини.", "Cada minuto."]),
        ("*/15 * * * *", ["At every 15 minutes.", "Каждые 15 минут.", "Кожні 15 хвилин.", "Cada 15 minutos."]),
        ("*/2 * * * *", ["At every 2 minutes.", "Каждые 2 минуты.", "Кожні 2 хвилини.", "Cada 2 minutos."]),
        (
            "0 14 * * MON,WED,FRI",
            [
                "At 14:00, on Monday, Wednesday, and Friday.",
                "В 14:00, по понедельникам, средам и пятницам.",
                "О 14:00, по понеділках, середах і п'ятницях.",
                "A las 14:00, los lunes, los miércoles y los viernes.",
            ],
        ),
        (
            "30 7 1,15 * *",
            [
                "At 07:30, on day 1 and 15.",
                "В 07:30, по числам 1 и 15.",
                "О 07:30, по числах 1 і 15.",
                "A las 07:30, los días 1 y 15.",
            ],
        ),
        (
            "0 9 L 1 *",
            [
                "At 09:00, on the last day of the month, in January.",
                "В 09:00, по последним дням месяца, в январе.",
                "О 09:00, по останніх днях місяця, у січні.",
                "A las 09:00, el último día del mes, en enero.",
            ],
        ),
        (
            "0 9 * * MON#2",
            [
                "At 09:00, on the 2nd Monday of the month.",
                "В 09:00, по 2-м понедельникам месяца.",
                "О 09:00, по 2-х понеділках місяця.",
                "A las 09:00, el 2.º lunes del mes.",
            ],
        ),
        (
            "0 */2 * * *",
            [
                "At minute 0, of every 2 hours.",
                "Минуты: 0, каждые 2 часа.",
                "Хвилини: 0, кожні 2 години.",
                "Minutos: 0, cada 2 horas.",
            ],
        ),
    ] {
        assert_eq!(said(&cron(text)), expected, "{text}");
    }
}

#[test]
fn rules_without_cron_have_a_sentence_in_each_language_too() {
    let daily = RuleText { recurrence: Some("daily".into()), time: Some("18:30".into()), ..RuleText::default() };
    let expected = ["At 18:30, every day.", "В 18:30, каждый день.", "О 18:30, щодня.", "A las 18:30, cada día."];
    assert_eq!(said(&times(&daily)), expected);
    let once = RuleText { run_at: Some("2026-12-31T20:00:00Z".into()), ..RuleText::default() };
    let expected = [
        "Once, at 2026-12-31 22:00.",
        "Один раз, 2026-12-31 22:00.",
        "Один раз, 2026-12-31 22:00.",
        "Una vez, 2026-12-31 22:00.",
    ];
    assert_eq!(said(&times(&once)), expected);
}

#[test]
fn no_language_leaves_a_phrase_empty_or_in_english() {
    for text in [
        "* * * * * *",
        "*/5 3 * * *",
        "0 0 15W * *",
        "0 0 * * 5L",
        "1-5 0 1 */2 *",
        "5,10 2,4 * * *",
        "0 0 0 1 1 * 2030",
    ] {
        let sentences = said(&cron(text));
        for (index, sentence) in sentences.iter().enumerate() {
            assert!(sentence.len() > 5 && sentence.ends_with('.'), "{text}: {sentence}");
            assert!(sentences[..index].iter().all(|other| other != sentence), "{text}: {sentences:?}");
        }
        for sentence in &sentences[1..3] {
            assert!(!sentence.chars().any(|c| c.is_ascii_alphabetic()), "{text}: {sentence}");
        }
    }
}

#[test]
fn the_preferred_language_is_taken() {
    use SentenceLanguage::{English, Russian, Spanish, Ukrainian};
    for (header, expected) in [
        ("", English),
        ("uk", Ukrainian),
        ("es-MX,es;q=0.9", Spanish),
        ("de, ru;q=0.5, uk;q=0.7", Ukrainian),
        ("fr, *;q=0.1", English),
        ("RU", Russian),
        ("ru;q=0, es;q=0.1", Spanish),
        ("ru;q=x", English),
    ] {
        assert_eq!(SentenceLanguage::from_accept_language(header), expected, "{header}");
    }
}
