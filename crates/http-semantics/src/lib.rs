//! Rules of HTTP itself, as pure functions: no I/O, no state, nothing of Tidegate's configuration (RFC 9110, 9111,
//! 9112).

pub mod chunked;
pub mod client_ip;
pub mod conditional;
pub mod content_coding;
pub mod content_disposition;
pub mod cors;
pub mod cross_site;
pub mod error_codes;
pub mod etag;
#[cfg(test)]
mod fuzz;
pub mod head_syntax;
pub mod headers;
pub mod media_type;
pub mod placeholders;
pub mod private_caching;
pub mod problem;
pub mod range;
pub mod rate_limit;
pub mod request_host;
pub mod request_info;
pub mod request_path;
