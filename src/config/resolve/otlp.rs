//! Section `Telemetry.Otlp`.

use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::{ConfigLocation, http_url, require_feature};
use crate::config::file::{self, Otlp};
use crate::config::report::ConfigProblem;
use crate::config::value::SecretRef;
use primitives::secret::Secret;
use request_traces::settings::{OtlpProtocol, SampleRate, Settings};

/// Path of traces at a collector that speaks HTTP (OTLP/HTTP).
const TRACES_PATH: &str = "/v1/traces";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
const MOST_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest name of a service, in bytes.
const MAX_NAME: usize = 255;

/// Resolves traces; `Some(None)` where none are sent.
pub fn traces(at: &ConfigLocation<'_>, raw: Option<&Otlp>) -> Option<Option<Settings>> {
    let Some(raw) = raw else { return Some(None) };
    require_feature(at, cfg!(feature = "otlp"), "otlp")?;
    let protocol = match raw.protocol {
        file::OtlpProtocol::Http => OtlpProtocol::Http,
        file::OtlpProtocol::Grpc => OtlpProtocol::Grpc,
    };
    let endpoint = match protocol {
        OtlpProtocol::Http => {
            let expected = "the URL of a collector without query, such as http://collector:4318";
            at.key("Endpoint").parse(&raw.endpoint, expected, http_endpoint)
        }
        OtlpProtocol::Grpc => {
            let expected = "scheme, host and port of a collector, such as http://collector:4317";
            at.key("Endpoint").parse(&raw.endpoint, expected, grpc_endpoint)
        }
    };
    let headers = at.key("Headers").all(&raw.headers, header);
    let sample_rate = sample_rate(at, raw.sample_rate);
    let service_name = match &raw.service_name {
        Some(text) => at.key("ServiceName").parse(text, "1 to 255 bytes without control characters", service_name),
        None => Some("tidegate".to_owned()),
    };
    let timeout = at.key("Timeout").span(raw.timeout, DEFAULT_TIMEOUT, LEAST_TIMEOUT, MOST_TIMEOUT);
    Some(Some(Settings {
        endpoint: endpoint?,
        protocol,
        headers: headers?,
        sample_rate: sample_rate?,
        sample_errors: raw.sample_errors.is_none_or(|flag| flag.0),
        service_name: service_name?,
        timeout: timeout?,
    }))
}

fn http_endpoint(text: &str) -> Option<Url> {
    let mut url = http_url(text).filter(|url| url.query().is_none())?;
    if !url.path().ends_with(TRACES_PATH) {
        url.set_path(&format!("{}{TRACES_PATH}", url.path().trim_end_matches('/')));
    }
    Some(url)
}

fn grpc_endpoint(text: &str) -> Option<Url> {
    http_url(text).filter(|url| url.query().is_none() && url.path() == "/")
}

fn header(at: &ConfigLocation<'_>, name: &str, value: &SecretRef) -> Option<(HeaderName, Secret)> {
    // A name with this ending is of binary values to gRPC, and those of HTTP itself are not for configurations.
    let is_taken = |name: &HeaderName| {
        let taken = ["content-type", "content-length", "transfer-encoding", "te", "host", "connection", "user-agent"];
        name.as_str().ends_with("-bin") || name.as_str().starts_with("grpc-") || taken.contains(&name.as_str())
    };
    let known = name.parse::<HeaderName>().ok().filter(|name| !is_taken(name));
    if known.is_none() {
        let problem = ConfigProblem::new(format!("`{name}` cannot be a header for the collector"));
        at.report(problem.expected("the name of a header that the protocol does not use itself"));
    }
    let value = at.secret(value)?.value;
    if http::HeaderValue::from_str(value.expose()).is_err() {
        at.report(ConfigProblem::new("the value cannot be a header's").expected("a line of visible characters"));
        return None;
    }
    Some((known?, value))
}

fn sample_rate(at: &ConfigLocation<'_>, raw: Option<f64>) -> Option<SampleRate> {
    let Some(share) = raw else { return Some(SampleRate::default()) };
    let rate = SampleRate::new(share);
    if rate.is_none() {
        let problem = ConfigProblem::new(format!("{share} is no share"));
        at.key("SampleRate").report(problem.expected("a number from 0 to 1, such as 0.01"));
    }
    rate
}

fn service_name(text: &str) -> Option<String> {
    let is_good = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    is_good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_added_for_http_and_there_is_none_for_grpc() {
        for (text, http, grpc) in [
            ("http://c:4318", Some("http://c:4318/v1/traces"), Some("http://c:4318/")),
            ("https://c/otlp/", Some("https://c/otlp/v1/traces"), None),
            ("https://c/otlp/v1/traces", Some("https://c/otlp/v1/traces"), None),
            ("http://c:4318/?key=x", None, None),
            ("http://user:password@c:4318", None, None),
            ("c:4317", None, None),
            ("unix:///run/c", None, None),
        ] {
            assert_eq!(http_endpoint(text).as_ref().map(Url::as_str), http, "{text}");
            assert_eq!(grpc_endpoint(text).as_ref().map(Url::as_str), grpc, "{text}");
        }
    }
}
