//! Section `ObjectStores`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use super::{ConfigLocation, http_url, store_credentials};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use s3::settings::{StoreCredentials, StoreEndpoint, StoreSettings};

const MINUTE: Duration = Duration::from_secs(60);
/// Longest lifetime of a signature that SigV4 allows.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

pub fn store(at: &ConfigLocation<'_>, name: &str, raw: &file::Store) -> Option<StoreSettings> {
    let endpoint = endpoint(at, raw);
    let embedded = raw.embedded.is_some();
    let region = match &raw.region {
        // The region of SigV4 that MinIO and most other stores expect.
        None => Some("us-east-1".to_owned()),
        Some(region) => at.key("Region").parse(region, "a region such as us-east-1", |text| {
            let plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
            (plain && !text.is_empty()).then(|| text.to_owned())
        }),
    };
    if embedded && raw.path_style == Some(false) {
        let problem = ConfigProblem::new("the embedded store has its buckets in the path");
        at.key("PathStyle").report(problem.help("remove `PathStyle`"));
    }
    if let (Some(false), Some(StoreEndpoint::Remote(url))) = (raw.path_style, &endpoint)
        && !matches!(url.host(), Some(Host::Domain(_)))
    {
        let problem = ConfigProblem::new("a bucket cannot stand in the host name of an IP address");
        at.key("PathStyle").report(problem.help("remove `PathStyle`, or give the store a name in `Endpoint`"));
    }
    let credentials = match &raw.credentials {
        Some(raw) => store_credentials::credentials(&at.key("Credentials"), raw, region.as_deref(), embedded),
        // The embedded store is opened with keys made at start.
        None if embedded => Some(StoreCredentials::Anonymous),
        None => {
            let problem = ConfigProblem::new("the key `Credentials` is missing");
            at.report(
                problem
                    .expected("`Credentials: { AccessKey: \"env:S3_ACCESS_KEY\", SecretKey: \"env:S3_SECRET_KEY\" }`"),
            );
            None
        }
    };
    let presign_expiry = at.key("PresignExpiry").span(raw.presign_expiry, 15 * MINUTE, MINUTE, WEEK);
    Some(StoreSettings {
        name: name.into(),
        endpoint: endpoint?,
        region: region?,
        // MinIO and most stores without a wildcard DNS name need it.
        path_style: raw.path_style.unwrap_or(true),
        credentials: credentials?,
        presign_expiry: presign_expiry?,
    })
}

fn endpoint(at: &ConfigLocation<'_>, raw: &file::Store) -> Option<StoreEndpoint> {
    match (&raw.endpoint, &raw.embedded) {
        (Some(endpoint), None) => {
            let expected = "scheme, host and port, without user, path or query, such as http://minio:9000";
            at.key("Endpoint").parse(endpoint, expected, bare_url).map(StoreEndpoint::Remote)
        }
        (None, Some(_)) if !cfg!(feature = "demo") => {
            super::require_feature(&at.key("Embedded"), false, "demo")?;
            None
        }
        (None, Some(folder)) => at.key("Embedded").text(folder).map(PathBuf::from).map(StoreEndpoint::Embedded),
        (Some(_), Some(_)) => {
            at.key("Embedded").report(
                ConfigProblem::new("a store is either at `Endpoint` or `Embedded`").help("remove one of the two"),
            );
            None
        }
        (None, None) => {
            let expected = "`Endpoint: http://minio:9000` or `Embedded: ./data/objects`";
            at.report(ConfigProblem::new("nothing says where the store is").expected(expected));
            None
        }
    }
}

/// Parses scheme, host and port.
pub fn bare_url(text: &str) -> Option<Url> {
    http_url(text).filter(|url| url.path() == "/" && url.query().is_none())
}

/// Place of objects that Tidegate stores.
pub struct UploadTarget {
    /// Name of the store.
    pub store: Arc<str>,
    /// Bucket in the store.
    pub bucket: String,
    /// Prefix of keys.
    pub prefix: String,
}

/// Resolves `Store`, `Bucket` and `Prefix` of a section whose objects are stored in parts.
pub fn upload_target(
    at: &ConfigLocation<'_>,
    store: &str,
    bucket: &ConfigText,
    prefix: Option<&ConfigText>,
    default_prefix: &str,
) -> Option<UploadTarget> {
    let stores = at.root("ObjectStores");
    let known = at.key("Store").known(store, &stores, &[]);
    let embedded = stores.key(store).names().contains(&"Embedded");
    if embedded {
        let problem =
            ConfigProblem::new("an embedded store takes no objects in parts").expected("the name of another store");
        at.key("Store").report(problem);
    }
    let bucket = at
        .key("Bucket")
        .parse(bucket, "3 to 63 of a-z, 0-9, `-` and `.`", |text| s3::is_bucket_name(text).then(|| text.to_owned()));
    let own = ConfigText(default_prefix.to_owned());
    let prefix = at.key("Prefix").parse(prefix.unwrap_or(&own), "at most 500 bytes, no `/` first", |text| {
        (text.len() <= 500 && !text.starts_with('/')).then(|| text.to_owned())
    });
    Some(UploadTarget { store: (known && !embedded).then(|| store.into())?, bucket: bucket?, prefix: prefix? })
}
