//! Ways for a token to travel: in the path, the default, since every player keeps it; in a cookie, for pages of the same site; in
//! a header, for players that can set one. Beside the path the film's id stands where the token would.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use primitives::ids::TrackId;

/// Name of the header that carries a token, in lower case.
pub const GRANT_HEADER: &str = "x-film-grant";
/// Name of the cookie that carries a token. The prefix makes browsers insist on `Secure`.
pub const GRANT_COOKIE: &str = "__Secure-film-grant";

/// Bytes that are escaped in a segment of a path: all that are not unreserved (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns the path of `file` in the folder of a film, with the token in it.
pub fn path_with_token(token: &str, movie: &TrackId, file: &str) -> String {
    path(token, movie, file)
}

/// Returns the path of `file` in the folder of a film, for a token in a cookie or a header.
pub fn path_without_token(movie: &TrackId, file: &str) -> String {
    path(&escaped(movie), movie, file)
}

fn path(first: &str, movie: &TrackId, file: &str) -> String {
    let file: Vec<String> = file.split('/').map(|segment| utf8_percent_encode(segment, SEGMENT).to_string()).collect();
    format!("/v/{first}/movies/{}/{}", escaped(movie), file.join("/"))
}

fn escaped(movie: &TrackId) -> String {
    utf8_percent_encode(movie.as_str(), SEGMENT).to_string()
}

/// Returns the value of `Set-Cookie` for a token: for this film only, hidden from scripts, and kept apart by the site that
/// embeds the player (`Partitioned`), which also lets it work there.
pub fn set_cookie(token: &str, movie: &TrackId, max_age: Duration) -> String {
    format!(
        "{GRANT_COOKIE}={token}; Path=/v/{}; Max-Age={}; Secure; HttpOnly; SameSite=None; Partitioned",
        escaped(movie),
        max_age.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_cookies_name_the_film_escaped() {
        let movie = TrackId::parse("a b/ü").expect("an id");
        assert_eq!(path_with_token("T", &movie, "720p/index.m3u8"), "/v/T/movies/a%20b%2F%C3%BC/720p/index.m3u8");
        assert_eq!(path_without_token(&movie, "x"), "/v/a%20b%2F%C3%BC/movies/a%20b%2F%C3%BC/x");
        let cookie = set_cookie("T", &movie, Duration::from_secs(9));
        let expected =
            "__Secure-film-grant=T; Path=/v/a%20b%2F%C3%BC; Max-Age=9; Secure; HttpOnly; SameSite=None; Partitioned";
        assert_eq!(cookie, expected);
    }
}
