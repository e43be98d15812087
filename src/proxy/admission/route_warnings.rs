//! Warnings of routes that are valid and probably not meant so.

use std::sync::Arc;

use url::{Host, Url};

use crate::proxy::settings::{HandlerSettings, RouteSettings};
use routing::table::RouteTable;
use s3::settings::{StoreEndpoint, StoreSettings};

/// Returns warnings of pairs of routes that some requests satisfy both of, while nothing says which comes first.
pub fn shared_request_warnings(routes: &RouteTable<Arc<RouteSettings>>) -> Vec<String> {
    let warning = |tie: &routing::table::AmbiguousRoutes| {
        format!(
            "some requests satisfy both `{}` and `{}`, and neither is more specific: they take the first by its id; give the one \
             that is meant a lower `Order`",
            tie.first, tie.second
        )
    };
    routes.partial_ties().iter().map(warning).collect()
}

/// Returns warnings of plain routes to an object store: its answers go out as they are, unsigned requests included.
pub fn bare_store_warnings(routes: &RouteTable<Arc<RouteSettings>>, stores: &[Arc<StoreSettings>]) -> Vec<String> {
    let is_endpoint = |address: &Url| {
        stores.iter().any(|store| match &store.endpoint {
            StoreEndpoint::Remote(endpoint) => !is_loopback(address) && endpoint.origin() == address.origin(),
            StoreEndpoint::Embedded(_) => false,
        })
    };
    let warning = |route: &Arc<RouteSettings>| {
        let HandlerSettings::Cluster(plain) = &route.handler else { return None };
        let store =
            plain.cluster.destinations.iter().find(|it| is_endpoint(&it.address) || is_store_name(&it.address))?;
        // The port and the path are left out, as is whatever else an address may hold.
        let name = store.address.host_str().unwrap_or_default();
        Some(format!(
            "`{}` goes to the object store `{name}` without `PresignedUrl`: requests are not signed, and the store's answers go \
             out bare, with its headers, its errors and the names of its buckets",
            route.id
        ))
    };
    routes.entries().filter_map(|entry| warning(&entry.value)).collect()
}

/// Returns true for an address of this machine alone, where things are tried out.
fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Returns true where an address is named as object stores usually are.
fn is_store_name(address: &Url) -> bool {
    let host = address.host_str().unwrap_or_default().to_ascii_lowercase();
    let mut labels = host.split('.');
    matches!(labels.next(), Some("minio" | "s3"))
        || host.ends_with(".amazonaws.com") && labels.any(|label| label.starts_with("s3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        for (address, expected) in [
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&address.parse().expect("a URL")), expected, "{address}");
        }
    }

    #[test]
    fn stores_are_known_by_their_names() {
        for (address, expected) in [
            ("http://minio:9000", true),
            ("http://minio.internal:9000", true),
            ("https://s3.eu-central-1.amazonaws.com", true),
            ("https://audio.s3.eu-central-1.amazonaws.com/", true),
            ("https://audio.s3-eu-west-1.amazonaws.com/", true),
            ("https://api.execute-api.eu-west-1.amazonaws.com/", false),
            ("http://miniature:80", false),
            ("http://10.0.0.1:9000", false),
        ] {
            assert_eq!(is_store_name(&address.parse().expect("a URL")), expected, "{address}");
        }
    }
}
