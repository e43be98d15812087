//! `X-Forwarded-*` and `Forwarded` (RFC 7239): what the destination is told of the client's own request.

use std::net::IpAddr;

use http::header::{FORWARDED, InvalidHeaderName};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Origin;

/// What is done with one of these headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Ours instead of the client's; where there is no value for it, none.
    #[default]
    Set,
    /// Ours after the client's.
    Append,
    /// None.
    Remove,
    /// The client's, as it was.
    Off,
}

/// What is done with each of the `X-Forwarded-*` headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// `For`: the client's address.
    pub client: Action,
    /// `Proto`: the scheme of its request.
    pub proto: Action,
    /// `Host`: the host that it asked for.
    pub host: Action,
    /// `Prefix`: the prefix that was removed from its path.
    pub prefix: Action,
}

/// The `X-Forwarded` transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XForwarded {
    actions: Actions,
    names: [HeaderName; 4],
}

impl Default for XForwarded {
    /// What a route does that configures neither this nor [`Forwarded`].
    fn default() -> Self {
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix"];
        Self { actions: Actions::default(), names: names.map(HeaderName::from_static) }
    }
}

impl XForwarded {
    /// With the header names beginning with `header_prefix` (`X-Forwarded-` unless configured).
    pub fn new(header_prefix: &str, actions: Actions) -> Result<Self, InvalidHeaderName> {
        let name = |fact: &str| HeaderName::try_from(format!("{header_prefix}{fact}"));
        Ok(Self { actions, names: [name("For")?, name("Proto")?, name("Host")?, name("Prefix")?] })
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap, origin: &Origin<'_>, prefix: &str) {
        let Actions { client, proto, host, prefix: prefix_action } = self.actions;
        let [for_name, proto_name, host_name, prefix_name] = &self.names;
        write(headers, for_name, client, &origin.client.to_canonical().to_string());
        write(headers, proto_name, proto, origin.scheme);
        write(headers, host_name, host, origin.host.unwrap_or_default());
        write(headers, prefix_name, prefix_action, prefix);
        // Two accounts of the same request, one of them the client's, would be a way to lie.
        if [client, proto, host, prefix_action] != [Action::Off; 4] {
            headers.remove(FORWARDED);
        }
    }
}

/// The `Forwarded` transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// What is done with the header.
    pub action: Action,
    /// `for`: how the client is named, if it is.
    pub client: Option<Node>,
    /// Whether the host that it asked for is told.
    pub host: bool,
    /// Whether the scheme of its request is told.
    pub proto: bool,
}

/// How a machine is named (RFC 7239 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// By its address.
    Ip,
    /// As `unknown`.
    Unknown,
}

impl Forwarded {
    pub(super) fn apply(&self, headers: &mut HeaderMap, origin: &Origin<'_>) {
        if self.action == Action::Off {
            return;
        }
        write(headers, &FORWARDED, self.action, &self.value(origin));
        let known = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
        let dropped: Vec<HeaderName> = headers.keys().filter(known).cloned().collect();
        for name in dropped {
            headers.remove(name);
        }
    }

    fn value(&self, origin: &Origin<'_>) -> String {
        let proto = self.proto.then(|| format!("proto={}", origin.scheme));
        // Quoted because of the port's colon; escaped because the client wrote it (RFC 9110 §5.6.4).
        let quoted = |host: &str| format!(r#"host="{}""#, host.replace('\\', r"\\").replace('"', r#"\""#));
        let host = origin.host.filter(|_| self.host).map(quoted);
        let client = self.client.map(|node| match (node, origin.client.to_canonical()) {
            (Node::Unknown, _) => "for=unknown".to_owned(),
            (Node::Ip, IpAddr::V4(address)) => format!("for={address}"),
            (Node::Ip, IpAddr::V6(address)) => format!(r#"for="[{address}]""#),
        });
        [proto, host, client].into_iter().flatten().collect::<Vec<_>>().join(";")
    }
}

/// An empty or unfit value counts as none. Appended values share a line: many servers read the first only.
fn write(headers: &mut HeaderMap, name: &HeaderName, action: Action, value: &str) {
    let value = HeaderValue::from_str(value).ok().filter(|value| !value.is_empty());
    match (action, value) {
        (Action::Off, _) | (Action::Append, None) => {}
        (Action::Remove, _) | (Action::Set, None) => drop(headers.remove(name)),
        (Action::Set, Some(value)) => drop(headers.insert(name, value)),
        (Action::Append, Some(value)) => {
            let lines: Vec<&[u8]> = headers.get_all(name).iter().chain([&value]).map(|line| line.as_bytes()).collect();
            let joined = HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap_or(value);
            headers.insert(name, joined);
        }
    }
}
