//! Spans as plain records.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use crate::SpanId;

/// Side of an exchange that a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work within this process.
    Internal,
    /// An answer to a client.
    Server,
    /// A request to a server.
    Client,
}

/// Work that a request needed.
#[derive(Clone, Debug)]
pub struct Span {
    /// Name of a closed set: never a path, a key or a user.
    pub name: Cow<'static, str>,
    /// Side that it is of.
    pub kind: SpanKind,
    /// Its id, where the context of the trace was passed on at it.
    pub id: Option<SpanId>,
    /// Values by their names.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// True where it failed.
    pub is_error: bool,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A text that others have too.
    Shared(Arc<str>),
    /// A number.
    Number(i64),
}

/// A span with its times.
#[derive(Clone, Debug)]
pub struct TimedSpan {
    /// The work.
    pub span: Span,
    /// Its begin.
    pub started: Instant,
    /// Its end.
    pub ended: Instant,
}

impl Span {
    /// Creates a span of work within this process.
    pub fn internal(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), kind: SpanKind::Internal, id: None, attributes: Vec::new(), is_error: false }
    }

    /// Creates a span of a request to a server.
    pub fn client(name: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: SpanKind::Client, attributes: Vec::with_capacity(6), ..Self::internal(name) }
    }

    /// Creates the span of an answer to a client.
    pub fn server(name: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: SpanKind::Server, ..Self::internal(name) }
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &'static str, value: impl Into<AttributeValue>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Adds an attribute where there is a value.
    pub fn with_some(self, name: &'static str, value: Option<impl Into<AttributeValue>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds the status that a server answered a request with: to who asked, 4xx and 5xx are failures.
    pub fn answered(self, status: StatusCode) -> Self {
        let code = status.as_u16();
        let span = self.with("http.response.status_code", code);
        if status.is_client_error() || status.is_server_error() { span.failed(code.to_string()) } else { span }
    }

    /// Marks it as failed, by the code of the failure.
    pub fn failed(mut self, code: impl Into<AttributeValue>) -> Self {
        self.is_error = true;
        self.with("error.type", code)
    }
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<&Arc<str>> for AttributeValue {
    fn from(text: &Arc<str>) -> Self {
        Self::Shared(Arc::clone(text))
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for AttributeValue {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for AttributeValue {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}
