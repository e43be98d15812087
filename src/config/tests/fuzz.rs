//! Fuzz target of the configuration's loader: the shipped files and the wrong ones, after edits.

use std::fs;

use fuzz_inputs::{FuzzInput, FuzzInputs, check};

use super::{conf, environment, has_leak, load_text};

#[test]
fn configuration_files() {
    let tokens: &[&[u8]] = &[
        b"\n",
        b"\n  ",
        b"\n    ",
        b": ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"\"",
        b"'",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!str ",
        b"!secret ",
        b"| ",
        b">- ",
        b"# ",
        b"\t",
        b"---\n",
        b"...\n",
        b"env:S3_SECRET_KEY",
        b"env:CANARY_PROSE",
        b"file:/nonexistent",
        b"null",
        b"~",
        b"true",
        b"-1",
        b"1e400",
        b".inf",
        b"18446744073709551616",
        b"99999999999d",
        b"1EiB",
        b"\\u0000",
        b"\\ud800",
        b"\0",
        b"\xff",
        b"hunter2",
        b"\xef\xbb\xbf",
    ];
    let wrong = fs::read_dir(conf("bad")).expect("a folder").map(|file| file.expect("a file").path());
    let wrong = wrong.filter(|file| file.extension().is_some_and(|end| end == "yaml"));
    let good = ["minimal.yaml", "tidegate.yaml", "yarp.json"].map(conf);
    let inputs = FuzzInputs::of_files(wrong.chain(good), tokens);
    inputs.each_sample(configuration_file);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| configuration_file(input));
}

/// Any text is settings or a report; the report names no secret, and it is the same each time.
fn configuration_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let load = || load_text("any.yaml", &text, &environment).map(|_| ()).map_err(|report| report.to_string());
    let outcome = load();
    assert_eq!(load(), outcome);
    let Err(report) = outcome else { return };
    assert!(report.starts_with("any.yaml"), "{report}");
    // What the file itself says in the clear may be shown; the values of the environment may not.
    assert!(text.contains("canary") || text.contains("hunter2") || !has_leak(&report), "{report}");
}
