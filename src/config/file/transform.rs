//! `ReverseProxy.Routes.<id>.Transforms`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::NamedEntries;
use crate::config::value::{ConfigFlag, ConfigText, TimeSpan};

/// One transform: the key that names it, and the keys that belong to it. YARP's names.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Transform {
    /// Answers from an object store, with a signed request that the player never sees.
    pub presigned_url: Option<PresignedUrl>,

    /// Replaces the path.
    pub path_set: Option<String>,
    /// Puts this before the path.
    pub path_prefix: Option<String>,
    /// Takes this off the beginning of the path.
    pub path_remove_prefix: Option<String>,
    /// Rebuilds the path from captured values: `/files/{**rest}`.
    pub path_pattern: Option<String>,

    /// Query parameter of this name, with `Set` or `Append` and the value.
    pub query_value_parameter: Option<String>,
    /// Query parameter of this name, with `Set` or `Append` and the name of a captured value.
    pub query_route_parameter: Option<String>,
    /// Removes the query parameter of this name.
    pub query_remove_parameter: Option<String>,
    /// Requests of this method change to that of `Set`.
    pub http_method_change: Option<String>,

    /// Whether request headers are copied. Default: `true`.
    pub request_headers_copy: Option<ConfigFlag>,
    /// Whether the client's `Host` is sent on. Default: `false`.
    pub request_header_original_host: Option<ConfigFlag>,
    /// Request header of this name, with `Set` or `Append` and the value.
    pub request_header: Option<String>,
    /// Request header of this name, with `Set` or `Append` and the name of a captured value.
    pub request_header_route_value: Option<String>,
    /// Removes the request header of this name.
    pub request_header_remove: Option<String>,
    /// Request header of this name, with the client's TLS certificate as Base64 of its DER. Without one the header is removed.
    pub client_cert: Option<String>,
    /// Only these request headers are copied: `Range;If-Range`.
    pub request_headers_allowed: Option<String>,

    /// What becomes of the `X-Forwarded` headers that are not named by `For`, `Proto`, `Host`, `Prefix`. Default: `Set`.
    #[serde(rename = "X-Forwarded")]
    pub x_forwarded: Option<ForwardedAction>,
    /// `X-Forwarded-For`.
    pub r#for: Option<ForwardedAction>,
    /// `X-Forwarded-Proto`.
    pub proto: Option<ForwardedAction>,
    /// `X-Forwarded-Host`.
    pub host: Option<ForwardedAction>,
    /// `X-Forwarded-Prefix`.
    pub prefix: Option<ForwardedAction>,
    /// In place of `X-Forwarded-`, with `X-Forwarded`.
    pub header_prefix: Option<String>,
    /// RFC 7239's header in place of `X-Forwarded`: which of `for`, `proto`, `host`, as in `for,proto`.
    pub forwarded: Option<String>,
    /// How `for` is written, with `Forwarded`: `Ip` or `Unknown`.
    pub for_format: Option<String>,
    /// What becomes of a `Forwarded` header that is there, with `Forwarded`. Default: `Set`.
    pub action: Option<ForwardedAction>,

    /// Whether response headers are copied. Default: `true`.
    pub response_headers_copy: Option<ConfigFlag>,
    /// Response header of this name, with `Set` or `Append`, the value, and `When`.
    pub response_header: Option<String>,
    /// Removes the response header of this name, with `When`.
    pub response_header_remove: Option<String>,
    /// Only these response headers are copied: `Content-Type;ETag`.
    pub response_headers_allowed: Option<String>,

    /// Whether response trailers are copied. Default: `true`.
    pub response_trailers_copy: Option<ConfigFlag>,
    /// Response trailer of this name, with `Set` or `Append`, the value, and `When`.
    pub response_trailer: Option<String>,
    /// Removes the response trailer of this name, with `When`.
    pub response_trailer_remove: Option<String>,
    /// Only these response trailers are copied: `grpc-status;grpc-message`.
    pub response_trailers_allowed: Option<String>,

    /// The value that replaces what is there.
    #[schemars(extend("writeOnly" = true))]
    pub set: Option<String>,
    /// The value that is added to what is there.
    #[schemars(extend("writeOnly" = true))]
    pub append: Option<String>,
    /// For which answers. Default: `Success`.
    pub when: Option<When>,
}

/// The object that answers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct PresignedUrl {
    /// A name in `ObjectStores`.
    pub store: Option<String>,
    /// The bucket. May be `env:NAME`.
    pub bucket: Option<ConfigText>,
    /// The object's key, with the path's captured values: `{**rest}`, `tracks/{id}.mp3`.
    pub key: Option<String>,
    /// In place of `Store`, `Bucket` and `Key`: the id of a track in the catalogue, which says where its object is: `{id}`.
    /// Needs `Database`.
    pub track: Option<String>,
    /// `Content-Type` of every object of this route. Default: the store's, else by the key's ending.
    pub content_type: Option<String>,
    /// Whether browsers store the object under the file name of its key (`Content-Disposition: attachment`) in place of showing it.
    /// Default: `false`.
    pub download: Option<ConfigFlag>,
    /// Name of the object that answers for a folder, a path that ends with a slash: `index.html`. A folder without its slash is
    /// redirected to it. Default: none.
    pub index_document: Option<String>,
    /// Whether a path that ends with a slash is answered with the names in that folder, as HTML or JSON, where there is no index
    /// document. Who may ask for the objects may see their names. Default: `false`.
    pub directory_listing: Option<ConfigFlag>,
    /// Codings of objects that lie beside others under the same key and `.br`, `.zst` or `.gz`, and are sent in their place to who takes
    /// them: `[br, zstd, gzip]`. Default: none.
    #[serde(default)]
    pub precompressed: Vec<ContentCoding>,
    /// Codings in which texts of 256 bytes to 1 MiB are sent, compressed for each request: `[zstd, br, gzip]`. Default: none.
    #[serde(default)]
    pub compression: Vec<ContentCoding>,
    /// Pages and cache times of errors, by their status: `404: { Key: errors/404.html, CacheFor: 30s }`.
    #[serde(default)]
    pub errors: NamedEntries<ErrorAnswer>,
}

/// What is answered to an error of one status. One of `Key` and `File` at most.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ErrorAnswer {
    /// Key of the object that is sent as the body, of 256 KiB at most; for 403, 404 and 410.
    pub key: Option<String>,
    /// A file that is sent as the body, `.html`, `.txt` or `.json`, of 64 KiB at most; read when the configuration is loaded. May be
    /// `env:NAME`.
    pub file: Option<ConfigText>,
    /// How long caches keep the error, at most `1d`; for 403, 404 and 410. Default: not at all.
    pub cache_for: Option<TimeSpan>,
}

/// A content coding.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ContentCoding {
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

/// What becomes of a forwarded header.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum ForwardedAction {
    /// The client's value is replaced.
    Set,
    /// Ours is added to the client's.
    Append,
    /// The header is removed.
    Remove,
    /// The client's value goes through.
    Off,
}

/// For which answers a response transform applies.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum When {
    /// Status below 400.
    #[default]
    Success,
    /// Status 400 and above.
    Failure,
    /// Every answer.
    Always,
}
