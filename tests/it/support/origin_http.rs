//! The origin's own HTTP/1.1: reading a request, and answering it as a good S3 store does (MinIO's manners).

use std::io;
use std::time::SystemTime;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::fault::Refusal;
use super::origin::Object;

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection it came over; the first is 1.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The raw request target, query included.
    pub target: String,
    /// All headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The raw path.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The raw query.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The path, percent-decoded once.
    pub fn decoded_path(&self) -> String {
        percent_encoding::percent_decode_str(self.path()).decode_utf8_lossy().into_owned()
    }
}

/// An answer before it is written.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers in order, `Content-Length` among them.
    pub headers: Vec<(String, String)>,
    /// The bytes that follow (left away for HEAD).
    pub body: Vec<u8>,
    /// The whole object that the body is a part of.
    pub whole: Vec<u8>,
}

impl Answer {
    /// An answer of this status, type and body.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut answer = Self { status, headers: Vec::new(), body: Vec::new(), whole: Vec::new() };
        answer.set("Content-Type", content_type);
        answer.replace_body(body.into());
        answer
    }

    /// Sets a header.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// With a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Removes a header.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// Another body, with its `Content-Length`.
    pub fn replace_body(&mut self, body: Vec<u8>) {
        self.set("Content-Length", &body.len().to_string());
        self.body = body;
    }

    /// The header block as bytes.
    pub fn head(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Reads one request; `None` when the other side closed before one began.
pub async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>, connection: usize) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let method = start.next().unwrap_or_default();
    let target = start.next().unwrap_or_default();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { connection, method, target, headers, body: Vec::new() };
    seen.body = read_body(stream, buffer, &seen).await?;
    Ok(Some(seen))
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, seen: &Seen) -> io::Result<Vec<u8>> {
    if seen.header("transfer-encoding").is_some() {
        return read_chunks(stream, buffer).await;
    }
    let length = seen.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    fill(stream, buffer, length).await?;
    Ok(buffer.drain(..length).collect())
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            fill(stream, buffer, buffer.len() + 1).await?;
        };
        let size = String::from_utf8_lossy(&buffer[..line]).into_owned();
        let size = usize::from_str_radix(&size, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        fill(stream, buffer, line + 2 + size + 2).await?;
        body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
        buffer.drain(..line + 2 + size + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// What a good store answers: conditionals as MinIO decides them, then the range. If-Range is ignored, as MinIO does.
pub fn good_answer(seen: &Seen, object: Option<&Object>) -> Answer {
    let Some(object) = object else {
        return refusal(seen, &Refusal { status: 404, code: "NoSuchKey", message: "no such key", headers: &[] });
    };
    let differs = |name| seen.header(name).is_some_and(|value| value != object.etag);
    if differs("if-match") || seen.header("if-unmodified-since").is_some_and(|date| date != object.modified) {
        let precondition = Refusal { status: 412, code: "PreconditionFailed", message: "precondition", headers: &[] };
        return refusal(seen, &precondition).with("ETag", &object.etag);
    }
    let size = object.body.len();
    let mut answer = Answer::new(200, &object.content_type, object.body.clone());
    answer.whole.clone_from(&object.body);
    for (name, value) in [("ETag", object.etag.as_str()), ("Last-Modified", &object.modified), ("Server", "MinIO")] {
        answer.set(name, value);
    }
    answer.set("Accept-Ranges", "bytes");
    answer.set("Date", &httpdate::fmt_http_date(SystemTime::now()));
    answer.set("X-Amz-Request-Id", "17F0000000000000");
    if seen.header("if-none-match") == Some(&object.etag) {
        answer.status = 304;
        answer.replace_body(Vec::new());
        answer.remove("Content-Length");
        return answer;
    }
    match seen.header("range").and_then(|range| resolve(range, size)) {
        None => {}
        Some(None) => {
            let invalid = Refusal { status: 416, code: "InvalidRange", message: "not satisfiable", headers: &[] };
            return refusal(seen, &invalid);
        }
        Some(Some((first, last))) => {
            answer.status = 206;
            answer.set("Content-Range", &format!("bytes {first}-{last}/{size}"));
            answer.replace_body(object.body[first..=last].to_vec());
        }
    }
    answer
}

/// `None`: no range that counts. `Some(None)`: not satisfiable. Else first and last position. MinIO reads
/// positions as signed numbers of 64 bits, and a range with a larger one as none.
fn resolve(range: &str, size: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if [first, last].iter().any(|text| !text.is_empty() && text.parse::<i64>().is_err()) {
        return None;
    }
    let end = size.checked_sub(1);
    if first.is_empty() {
        let suffix: usize = last.parse().ok()?;
        return Some(end.filter(|_| suffix > 0).map(|end| (size.saturating_sub(suffix), end)));
    }
    let first: usize = first.parse().ok()?;
    let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    Some(end.filter(|end| first <= *end && first <= last).map(|end| (first, last.min(end))))
}

/// An S3 error in MinIO's form, which names bucket, key and host.
pub fn refusal(seen: &Seen, refusal: &Refusal) -> Answer {
    let Refusal { status, code, message, headers } = refusal;
    let resource = seen.decoded_path().replace('&', "&amp;").replace('<', "&lt;");
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <Resource>{resource}</Resource><RequestId>17F0000000000000</RequestId><HostId>{host}</HostId></Error>",
        host = seen.header("host").unwrap_or_default(),
    );
    let mut answer = Answer::new(*status, "application/xml", xml);
    for (name, value) in *headers {
        answer.set(name, value);
    }
    if seen.method == "HEAD" {
        answer.replace_body(Vec::new());
        answer.set("X-Minio-Error-Code", code);
        answer.set("X-Minio-Error-Desc", &format!("\"{message}\""));
    }
    answer
}
