//! Addresses of stations as URLs: what is taken, and in which form it is compared.

use url::{Host, Url};

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;
/// Ports that no station has, since servers of other protocols could take a request for a command (Fetch, "port
/// blocking", those below 1024 that are assigned to a text protocol, and Redis, Memcached and IRC).
const BLOCKED_PORTS: &[u16] = &[
    0, 7, 9, 19, 21, 22, 23, 25, 53, 110, 111, 119, 135, 139, 143, 389, 445, 465, 514, 587, 993, 995, 6379, 6667, 11211,
];

/// Reason for which a URL is none of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StationUrlError {
    /// The form.
    #[error("expected a whole URL, such as https://radio.example/live, of at most 2048 bytes")]
    Malformed,
    /// The scheme.
    #[error("the scheme must be http or https")]
    Scheme,
    /// A user name or a password.
    #[error("a URL with a user name or a password is not taken")]
    Credentials,
    /// The port.
    #[error("no station is at this port")]
    Port,
}

/// Parses the URL of a station. The result has no fragment, which no server sees, and its host in lower case.
pub fn parse_station_url(text: &str) -> Result<Url, StationUrlError> {
    if text.len() > MAX_URL_BYTES || text.chars().any(char::is_control) {
        return Err(StationUrlError::Malformed);
    }
    let url = Url::parse(text.trim()).map_err(|_| StationUrlError::Malformed)?;
    check_station_url(url)
}

/// Checks a URL that a server has named: a redirect, or an entry of a playlist.
pub fn check_station_url(mut url: Url) -> Result<Url, StationUrlError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(StationUrlError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StationUrlError::Credentials);
    }
    let has_host = match url.host() {
        Some(Host::Domain(name)) => !name.is_empty(),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    };
    if !has_host || url.as_str().len() > MAX_URL_BYTES {
        return Err(StationUrlError::Malformed);
    }
    if url.port_or_known_default().is_none_or(|port| BLOCKED_PORTS.contains(&port)) {
        return Err(StationUrlError::Port);
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_one_form_however_it_is_written() {
        for (text, form) in [
            ("HTTP://Radio.Example:80/live#x", "http://radio.example/live"),
            (" https://radio.example ", "https://radio.example/"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://[::FFFF:127.0.0.1]:8000/;", "http://[::ffff:7f00:1]:8000/;"),
            ("http://радио.example/", "http://xn--80aalwh.example/"),
        ] {
            let parsed = parse_station_url(text).map(String::from);
            if form.contains("xn--") {
                assert!(parsed.is_ok_and(|url| url.starts_with("http://xn--")), "{text}");
            } else {
                assert_eq!(parsed.as_deref(), Ok(form), "{text}");
            }
        }
    }

    #[test]
    fn other_schemes_credentials_and_ports_are_refused() {
        let long = format!("http://radio.example/{}", "x".repeat(2048));
        for (text, error) in [
            ("radio.example/live", StationUrlError::Malformed),
            ("", StationUrlError::Malformed),
            ("http://", StationUrlError::Malformed),
            ("http://a\n.example/", StationUrlError::Malformed),
            (&long, StationUrlError::Malformed),
            ("file:///etc/passwd", StationUrlError::Scheme),
            ("ftp://radio.example/", StationUrlError::Scheme),
            ("gopher://radio.example/", StationUrlError::Scheme),
            ("javascript:alert(1)", StationUrlError::Scheme),
            ("http://user@radio.example/", StationUrlError::Credentials),
            ("http://radio.example@127.0.0.1/", StationUrlError::Credentials),
            ("http://:x@radio.example/", StationUrlError::Credentials),
            ("http://radio.example:22/", StationUrlError::Port),
            ("https://radio.example:6379/", StationUrlError::Port),
            ("http://radio.example:0/", StationUrlError::Port),
        ] {
            assert_eq!(parse_station_url(text), Err(error), "{text}");
        }
    }
}
