//! Tests wait for what they are about, and not for a time: no file of `tests/it` sleeps, and none asserts that something took
//! less than a time, which any busy machine makes untrue.

use super::{root, rust_files, text, without_comment};

/// Files that sleep, how often, and why.
const SLEEPS: &[(&str, usize, &str)] = &[
    ("support/eventually.rs", 2, "time between two questions"),
    ("support/origin.rs", 1, "the pause of a scripted store is part of its script"),
    ("plain/answers.rs", 1, "the pause between two packets is the server's"),
    ("outages/load.rs", 1, "players of a load begin one after the other"),
    ("lifecycle/handed_events.rs", 1, "the pace of a load"),
    ("lifecycle/upgrade.rs", 2, "the pace of a load: players read a piece at a time"),
];

/// Lines of code that sleep.
fn sleeping_lines(code: &str) -> Vec<String> {
    let lines = code.lines().map(without_comment);
    lines.filter(|line| line.contains("sleep(") || line.contains("sleep_until(")).collect()
}

/// Lines of code that assert an upper bound of a measured time.
fn bounding_lines(code: &str) -> Vec<String> {
    let is_bound = |line: &String| {
        let measured = line.find("elapsed()").map(|at| &line[at..]).unwrap_or_default();
        let is_compared = [" < ", " <= "].iter().any(|sign| measured.contains(sign));
        let is_constant = [" < Duration::", " <= Duration::"].iter().any(|bound| line.contains(bound));
        // A loop that goes on for a time is a lower bound of it.
        (is_compared || is_constant) && !line.trim_start().starts_with("while ")
    };
    code.lines().map(without_comment).filter(is_bound).collect()
}

#[test]
fn no_integration_test_sleeps_or_bounds_how_long_something_took() {
    let folder = root().join("tests/it");
    let (mut wrong, mut unused) = (Vec::new(), SLEEPS.to_vec());
    for file in rust_files(&folder).into_iter().filter(|file| !file.ends_with(file!().rsplit('/').next().unwrap_or("")))
    {
        let (name, code) = (file.strip_prefix(&folder).expect("it is in there").display().to_string(), text(&file));
        let allowed = SLEEPS.iter().find(|(known, ..)| *known == name).map_or(0, |(_, count, _)| *count);
        let sleeps = sleeping_lines(&code);
        if sleeps.len() > allowed {
            wrong.push(format!("{name} sleeps; poll with `eventually`, or keep a pace with `interval`: {sleeps:#?}"));
        }
        unused.retain(|(known, count, _)| *known != name || sleeps.len() < *count);
        let bounds = bounding_lines(&code);
        if name != "support/eventually.rs" && !bounds.is_empty() {
            wrong.push(format!(
                "{name} bounds a time; assert what took so long otherwise (`config::NEVER`): {bounds:#?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unused.is_empty(), "they sleep less often: {unused:?}");
}

#[test]
fn sleeps_and_upper_bounds_are_found_and_lower_bounds_are_let_through() {
    for code in ["    tokio::time::sleep(pause).await;", "thread::sleep(SECOND)", "sleep_until(then).await"] {
        assert_eq!(sleeping_lines(code).len(), 1, "{code}");
    }
    for code in ["// As sleep(1) does.", "interval(SECOND).tick().await", "script: sleep 60"] {
        assert_eq!(sleeping_lines(code), [""; 0], "{code}");
    }
    for code in ["assert!(begun.elapsed() < LIMIT);", "took < Duration::from_secs(5)", "begun.elapsed().as_secs() <= 3"]
    {
        assert_eq!(bounding_lines(code).len(), 1, "{code}");
    }
    let fine = [
        "assert!(begun.elapsed() >= IDLE);",
        "while begun.elapsed() < SECOND {",
        "asked <= 2 * begun.elapsed().as_secs()",
    ];
    for code in fine {
        assert_eq!(bounding_lines(code), [""; 0], "{code}");
    }
}
