//! Fuzz target of path patterns: a pattern on the first line, another on the second, and a request's path on the third.

use fuzz_inputs::{FuzzInput, FuzzInputs, check};

use crate::pattern::{PathPattern, Separator};

const MEMBER: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn route_patterns() {
    let tokens: &[&[u8]] = &[
        b"/",
        b"\n",
        b"//",
        b"{",
        b"}",
        b"{id}",
        b"{**rest}",
        b"**",
        b"*",
        b"{*all}",
        b".",
        b"..",
        b"%2f",
        b"%2F",
        b"%5c",
        b"%00",
        b"%",
        b"%C3%A9",
        b"%c3",
        b"?",
        b"#",
        b"a",
        b"A",
        b"\xc3\x89",
        b"\xc3\xa9",
        b"\xc4\xb0",
        b"i\xcc\x87",
        b"\xff",
        b"{a}/{b}/{c}",
        b"{id:int}",
        b"{id?}",
        b"{id=1}",
        b"{**rest=a/b}",
        b"{x:regex(^a{{2}}$)}",
        b":length(1,2)",
        b"7",
        b" ",
        b"+",
    ];
    let inputs = FuzzInputs::new(MEMBER, "route_patterns", tokens);
    inputs.each_sample(route_pattern);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| route_pattern(input));
}

/// Matching and capturing agree; what is captured stands in the path; one that covers another matches whatever that does.
fn route_pattern(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let (Some(one), Some(two), Some(path)) = (lines.next(), lines.next(), lines.next()) else { return };
    let has_default = one.contains('=');
    let Ok(one) = PathPattern::parse(one) else { return };
    assert!(one.covers(&one), "a pattern covers itself");
    for separator in [Separator::Slash, Separator::EscapedSlash] {
        let captures = one.matches(path, separator);
        assert_eq!(captures.is_some(), one.is_match(path, separator));
        if let Some(captures) = captures {
            let optional: Vec<&str> = one.optional_names().collect();
            for name in one.names() {
                let Some(value) = captures.get(name) else {
                    assert!(optional.contains(&name), "{name} has a value");
                    continue;
                };
                assert!(path.contains(value) || has_default, "{name}: {value}");
                let _ = captures.decoded(name);
            }
        }
        if let Ok(two) = PathPattern::parse(two)
            && one.covers(&two)
            && two.is_match(path, separator)
        {
            assert!(one.is_match(path, separator), "{one:?} covers {two:?}");
        }
    }
}
