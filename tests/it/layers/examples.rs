//! What the tests of the layers find, and what they let through.

use std::path::Path;

use super::{edges_of, forbidden, table, unused};

#[test]
fn a_forbidden_edge_is_found_in_every_spelling() {
    let allowed = table("http:\nclock:\nproxy:");
    let spellings = [
        ("http/range.rs", "use crate::proxy::Failure;"),
        ("http/range.rs", "use crate::{clock::Clock, proxy};"),
        ("http/range.rs", "use crate::{\n    proxy::{a, b},\n};"),
        ("http/range.rs", "fn f() { let x = crate::proxy::x(); }"),
        ("http/mod.rs", "use super::proxy;"),
        ("http/range.rs", "use super::super::proxy::x;"),
        ("http/deep/range.rs", "pub(crate) use super::super::super::proxy;"),
        ("clock.rs", "use super::proxy::Clock;"),
    ];
    for (file, text) in spellings {
        let edges = edges_of(Path::new(file), text);
        let wrong = forbidden(&allowed, &edges);
        assert!(wrong.iter().any(|line| line.contains("`proxy`")), "{text:?} in {file} was let through: {edges:?}");
    }
}

#[test]
fn an_allowed_edge_a_comment_and_a_module_of_its_own_are_let_through() {
    let allowed = table("proxy: route\nroute:\nhttp:\napp: *");
    let fine = [
        ("proxy/admission.rs", "use crate::route::table;"),
        ("http/range.rs", "// see crate::proxy\nuse crate::http::etag;"),
        ("http/range.rs", "/// As [`crate::proxy::Failure`] says.\nfn f() {}"),
        ("http/range.rs", "mod tests {\n    use super::super::etag;\n}"),
        ("http/range.rs", "use super::etag;"),
        ("app.rs", "use crate::proxy;"),
    ];
    for (file, text) in fine {
        let wrong = forbidden(&allowed, &edges_of(Path::new(file), text));
        assert!(wrong.is_empty(), "{text:?} in {file}: {wrong:?}");
    }
}

#[test]
fn a_module_without_a_line_is_refused() {
    let edges = edges_of(Path::new("novelty/mod.rs"), "use crate::http;");
    assert_eq!(forbidden(&table("http:"), &edges).len(), 1);
}

#[test]
fn an_edge_that_nothing_uses_is_found() {
    let edges = edges_of(Path::new("proxy/mod.rs"), "use crate::route::table;");
    assert_eq!(unused(&table("proxy: route http\nroute:"), &edges), ["proxy: http"]);
}
