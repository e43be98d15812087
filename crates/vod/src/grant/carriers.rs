//! Ways for a token to travel: in the path, the default, since every player keeps it; in a cookie, for pages of the same site; in
//! a header, for players that can set one. Beside the path the film's id stands where the token would.

use std::time::Duration;

use percent_encoding::utf8_percent_encode;

use primitives::ids::TrackId;
use server_kit::url_template::UNRESERVED;

/// Name of the header that carries a token, in lower case.
pub const GRANT_HEADER: &str = "x-film-grant";
/// Name of the cookie that carries a token. The prefix makes browsers insist on `Secure`.
pub const GRANT_COOKIE: &str = "__Secure-film-grant";

/// Returns the path of `file`, in the folder of a film, for a token in a cookie or a header.
pub fn path_without_token(movie: &TrackId, file: &str) -> String {
    let movie = utf8_percent_encode(movie.as_str(), UNRESERVED);
    format!("/v/{movie}/movies/{movie}/{file}")
}

/// Returns the value of `Set-Cookie` for a token: for this film only, hidden from scripts, and kept apart by the site that
/// embeds the player (`Partitioned`), which also lets it work there.
pub fn set_cookie(token: &str, movie: &TrackId, max_age: Duration) -> String {
    format!(
        "{GRANT_COOKIE}={token}; Path=/v/{}; Max-Age={}; Secure; HttpOnly; SameSite=None; Partitioned",
        utf8_percent_encode(movie.as_str(), UNRESERVED),
        max_age.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_cookies_name_the_film_escaped() {
        let movie = TrackId::parse("a b/ü").expect("an id");
        assert_eq!(path_without_token(&movie, "x"), "/v/a%20b%2F%C3%BC/movies/a%20b%2F%C3%BC/x");
        let cookie = set_cookie("T", &movie, Duration::from_secs(9));
        let expected =
            "__Secure-film-grant=T; Path=/v/a%20b%2F%C3%BC; Max-Age=9; Secure; HttpOnly; SameSite=None; Partitioned";
        assert_eq!(cookie, expected);
    }
}
