//! `X-Forwarded-*` and `Forwarded` (RFC 7239): headers by which the destination learns of the client's own request.

use std::net::IpAddr;

use http::header::{FORWARDED, InvalidHeaderName};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::OriginalRequest;

/// Treatment of one of these headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeaderAction {
    /// Ours instead of the client's; where there is no value for it, none.
    #[default]
    Set,
    /// Ours after the client's.
    Append,
    /// Removes the header.
    Remove,
    /// Leaves the client's as it is.
    Off,
}

/// Treatment of each of the `X-Forwarded-*` headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XForwardedActions {
    /// `For`: the client's address.
    pub client: ForwardedHeaderAction,
    /// `Proto`: the scheme of its request.
    pub proto: ForwardedHeaderAction,
    /// `Host`: the host that it asked for.
    pub host: ForwardedHeaderAction,
    /// `Prefix`: the prefix that was removed from its path.
    pub prefix: ForwardedHeaderAction,
}

/// The `X-Forwarded` transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XForwardedTransform {
    actions: XForwardedActions,
    names: [HeaderName; 4],
}

impl Default for XForwardedTransform {
    /// Returns the transform of a route that configures neither this nor [`ForwardedTransform`].
    fn default() -> Self {
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix"];
        Self { actions: XForwardedActions::default(), names: names.map(HeaderName::from_static) }
    }
}

impl XForwardedTransform {
    /// Makes the transform with header names that begin with `header_prefix` (`X-Forwarded-` unless configured). Fails
    /// where that makes no header name.
    pub fn new(header_prefix: &str, actions: XForwardedActions) -> Result<Self, InvalidHeaderName> {
        let name = |fact: &str| HeaderName::try_from(format!("{header_prefix}{fact}"));
        Ok(Self { actions, names: [name("For")?, name("Proto")?, name("Host")?, name("Prefix")?] })
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap, origin: &OriginalRequest<'_>, prefix: &str) {
        let XForwardedActions { client, proto, host, prefix: prefix_action } = self.actions;
        let [for_name, proto_name, host_name, prefix_name] = &self.names;
        // Canonical: on an IPv6 listener an IPv4 client has the address `::ffff:a.b.c.d`; the destination gets the IPv4
        // form.
        write(headers, for_name, client, &origin.client.to_canonical().to_string());
        write(headers, proto_name, proto, origin.scheme);
        write(headers, host_name, host, origin.host.unwrap_or_default());
        write(headers, prefix_name, prefix_action, prefix);
        // A client could lie by `Forwarded` to a destination that trusts it more than `X-Forwarded-*`.
        if [client, proto, host, prefix_action] != [ForwardedHeaderAction::Off; 4] {
            headers.remove(FORWARDED);
        }
    }
}

/// The `Forwarded` transform (RFC 7239).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedTransform {
    /// Treatment of the header.
    pub action: ForwardedHeaderAction,
    /// `for`: form of the client's address; `None` leaves it out.
    pub client: Option<NodeFormat>,
    /// Includes the host that the client asked for.
    pub host: bool,
    /// Includes the scheme of the client's request.
    pub proto: bool,
}

/// Form in which a machine is named (RFC 7239 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFormat {
    /// By its address.
    Ip,
    /// The word `unknown`.
    Unknown,
}

impl ForwardedTransform {
    pub(super) fn apply(&self, headers: &mut HeaderMap, origin: &OriginalRequest<'_>) {
        if self.action == ForwardedHeaderAction::Off {
            return;
        }
        write(headers, &FORWARDED, self.action, &self.value(origin));
        // As in the other transform: one description of the request, not two.
        let known = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
        let dropped: Vec<HeaderName> = headers.keys().filter(known).cloned().collect();
        for name in dropped {
            headers.remove(name);
        }
    }

    fn value(&self, origin: &OriginalRequest<'_>) -> String {
        let proto = self.proto.then(|| format!("proto={}", origin.scheme));
        // Quoted because of the port's colon; escaped because the client wrote it (RFC 9110 §5.6.4).
        let quoted = |host: &str| format!(r#"host="{}""#, host.replace('\\', r"\\").replace('"', r#"\""#));
        let host = origin.host.filter(|_| self.host).map(quoted);
        let client = self.client.map(|node| match (node, origin.client.to_canonical()) {
            (NodeFormat::Unknown, _) => "for=unknown".to_owned(),
            (NodeFormat::Ip, IpAddr::V4(address)) => format!("for={address}"),
            // Bracketed, and quoted because of its colons (RFC 7239 §6).
            (NodeFormat::Ip, IpAddr::V6(address)) => format!(r#"for="[{address}]""#),
        });
        [proto, host, client].into_iter().flatten().collect::<Vec<_>>().join(";")
    }
}

/// Applies `action` to one header. A value that is empty, or that no header can hold, counts as none. Appended values
/// share a line: many servers read the first line only.
fn write(headers: &mut HeaderMap, name: &HeaderName, action: ForwardedHeaderAction, value: &str) {
    let value = HeaderValue::from_str(value).ok().filter(|value| !value.is_empty());
    match (action, value) {
        (ForwardedHeaderAction::Off, _) | (ForwardedHeaderAction::Append, None) => {}
        (ForwardedHeaderAction::Remove, _) | (ForwardedHeaderAction::Set, None) => drop(headers.remove(name)),
        (ForwardedHeaderAction::Set, Some(value)) => drop(headers.insert(name, value)),
        (ForwardedHeaderAction::Append, Some(value)) => {
            let lines: Vec<&[u8]> = headers.get_all(name).iter().chain([&value]).map(|line| line.as_bytes()).collect();
            let joined = HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap_or(value);
            headers.insert(name, joined);
        }
    }
}
