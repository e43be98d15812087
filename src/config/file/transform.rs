//! `ReverseProxy.Routes.<id>.Transforms`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::ConfigFlag;

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
    pub bucket: Option<crate::config::value::ConfigText>,
    /// The object's key, with the path's captured values: `{**rest}`, `tracks/{id}.mp3`.
    pub key: Option<String>,
    /// In place of `Store`, `Bucket` and `Key`: the id of a track in the catalogue, which says where its object is: `{id}`.
    /// Needs `Database`.
    pub track: Option<String>,
    /// `Content-Type` of every object of this route. Default: the store's, else by the key's ending.
    pub content_type: Option<String>,
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
