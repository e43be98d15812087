//! The requests: what they are about, their bytes, and the statuses of the answers that Tidegate gives.

/// Bytes that can be read as one request or as several.
pub struct AmbiguousRequest {
    /// What they are about.
    pub name: &'static str,
    text: String,
    /// Statuses of all answers on the connection, in order.
    pub statuses: &'static [u16],
    /// Its body never ends: a server may answer before, or not at all.
    pub is_cut: bool,
}

impl AmbiguousRequest {
    /// Returns the bytes, for paths below `/{server}/`.
    pub fn bytes(&self, server: &str) -> Vec<u8> {
        let length = HIDDEN.replace("{S}", server).len();
        let text = self.text.replace("{S}", server).replace("{L}", &length.to_string());
        text.replace("{X}", &format!("{length:x}")).into_bytes()
    }

    /// Method of the first request, by which its answer is read.
    pub fn method(&self) -> &'static str {
        if self.text.starts_with("HEAD ") { "HEAD" } else { "GET" }
    }

    /// True where these are the statuses.
    pub fn expects(&self, answered: &[u16]) -> bool {
        answered == self.statuses || self.is_cut && answered.is_empty()
    }
}

/// The request that must not come out of the body of another one.
const HIDDEN: &str = "GET /{S}/hidden HTTP/1.1\r\nHost: gate\r\n\r\n";

fn row(name: &'static str, statuses: &'static [u16], text: impl Into<String>) -> AmbiguousRequest {
    AmbiguousRequest { name, text: text.into(), statuses, is_cut: false }
}

/// A POST whose body never ends.
fn cut(name: &'static str, headers: &str, rest: &str) -> AmbiguousRequest {
    AmbiguousRequest { is_cut: true, ..post(name, &[200], headers, rest) }
}

/// A POST with these header lines, and what follows its head.
fn post(name: &'static str, statuses: &'static [u16], headers: &str, rest: &str) -> AmbiguousRequest {
    row(name, statuses, format!("POST /{{S}}/{} HTTP/1.1\r\nHost: gate\r\n{headers}\r\n{rest}", name.replace(' ', "-")))
}

/// A POST with a chunked body.
fn chunked(name: &'static str, statuses: &'static [u16], body: &str) -> AmbiguousRequest {
    post(name, statuses, "Transfer-Encoding: chunked\r\n", body)
}

const REFUSED: &[u16] = &[400];

pub fn rows() -> Vec<AmbiguousRequest> {
    let mut rows = lengths();
    rows.extend(encodings());
    rows.extend(chunks());
    rows.extend(heads());
    rows.extend(pipelines());
    rows
}

fn lengths() -> Vec<AmbiguousRequest> {
    vec![
        post(
            "length and chunked",
            REFUSED,
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            &format!("0\r\n\r\n{HIDDEN}"),
        ),
        post(
            "chunked and length",
            REFUSED,
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            &format!("5c\r\n{HIDDEN}0\r\n\r\n"),
        ),
        post("two lengths", REFUSED, "Content-Length: 0\r\nContent-Length: 44\r\n", HIDDEN),
        post("two equal lengths", REFUSED, "Content-Length: 0\r\nContent-Length: 0\r\n", HIDDEN),
        post("list of lengths", REFUSED, "Content-Length: 0, 44\r\n", HIDDEN),
        post("signed length", REFUSED, "Content-Length: +0\r\n", HIDDEN),
        post("negative length", REFUSED, "Content-Length: -1\r\n", HIDDEN),
        post("hexadecimal length", REFUSED, "Content-Length: 0x0\r\n", HIDDEN),
        post("length with a fraction", REFUSED, "Content-Length: 0.0\r\n", HIDDEN),
        post("empty length", REFUSED, "Content-Length: \r\n", HIDDEN),
        post("length beyond 64 bits", REFUSED, "Content-Length: 18446744073709551616\r\n", HIDDEN),
        post("blank within a length", REFUSED, "Content-Length: 4 4\r\n", HIDDEN),
        post("vertical tab before a length", REFUSED, "Content-Length: \u{b}44\r\n", HIDDEN),
        post("length with an underscore", &[200, 200], "Content_Length: 44\r\n", HIDDEN),
        post("hidden in a counted body", &[200], "Content-Length: {L}\r\n", HIDDEN),
    ]
}

fn encodings() -> Vec<AmbiguousRequest> {
    let body = format!("0\r\n\r\n{HIDDEN}");
    let refused = |name, line: &str| post(name, REFUSED, &format!("{line}\r\n"), &body);
    vec![
        refused("blank before the colon", "Transfer-Encoding : chunked"),
        refused("tab before the colon", "Transfer-Encoding\t: chunked"),
        refused("unknown coding", "Transfer-Encoding: xchunked"),
        refused("coding before chunked", "Transfer-Encoding: gzip, chunked"),
        refused("coding after chunked", "Transfer-Encoding: chunked, identity"),
        refused("chunked twice", "Transfer-Encoding: chunked, chunked"),
        refused("two lines of coding", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        refused("quoted coding", "Transfer-Encoding: \"chunked\""),
        refused("coding with a parameter", "Transfer-Encoding: chunked;q=1"),
        refused("vertical tab before the coding", "Transfer-Encoding: \u{b}chunked"),
        refused("folded coding", "Transfer-Encoding:\r\n chunked"),
        refused("folded line before the coding", "X-Folded: a\r\n\tTransfer-Encoding: chunked"),
        refused("line feed before the coding", "X-Bare: a\nTransfer-Encoding: chunked"),
        refused("return before the coding", "X-Bare: a\rTransfer-Encoding: chunked"),
        refused("NUL in the coding", "Transfer-Encoding: chunked\0"),
        refused("coding without a colon", "Transfer-Encoding chunked"),
        refused("blank before the name", " Transfer-Encoding: chunked"),
        row(
            "coding of an old client",
            REFUSED,
            format!("POST /{{S}}/old HTTP/1.0\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        ),
        post("coding in capitals", &[200, 200], "TRANSFER-ENCODING: CHUNKED\r\n", &body),
    ]
}

fn chunks() -> Vec<AmbiguousRequest> {
    let rest = |text: &str| format!("{text}{HIDDEN}");
    vec![
        chunked("chunk extension", &[200, 200], &rest("5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n")),
        chunked("line feed in an extension", REFUSED, &rest("5;a\nhello\r\n0\r\n\r\n")),
        chunked("return in an extension", REFUSED, &rest("5;a\rb\r\nhello\r\n0\r\n\r\n")),
        chunked("line feed after the size", REFUSED, &rest("5\nhello\r\n0\r\n\r\n")),
        chunked("line feed after the data", REFUSED, &rest("5\r\nhello\n0\r\n\r\n")),
        chunked("no line end after the data", REFUSED, &rest("5\r\nhello0\r\n\r\n")),
        chunked("size beyond 64 bits", REFUSED, &rest("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        cut("size beyond 32 bits", "Transfer-Encoding: chunked\r\n", &rest("100000005\r\nhello\r\n0\r\n\r\n")),
        chunked("signed size", REFUSED, &rest("+5\r\nhello\r\n0\r\n\r\n")),
        chunked("negative size", REFUSED, &rest("-5\r\nhello\r\n0\r\n\r\n")),
        chunked("size with a prefix", REFUSED, &rest("0x5\r\nhello\r\n0\r\n\r\n")),
        chunked("blank before the size", REFUSED, &rest(" 5\r\nhello\r\n0\r\n\r\n")),
        chunked("empty size", REFUSED, &rest("\r\nhello\r\n0\r\n\r\n")),
        chunked("hidden in a chunk", &[200], &format!("{{X}}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        chunked(
            "framing among the trailers",
            &[200, 200],
            &rest("0\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        chunked("line feed among the trailers", REFUSED, &rest("0\r\nX: a\n\r\n")),
    ]
}

fn heads() -> Vec<AmbiguousRequest> {
    let get = |name: &'static str, statuses, target: &str, headers: &str| {
        row(name, statuses, format!("GET {target} HTTP/1.1\r\n{headers}\r\n"))
    };
    vec![
        get("two hosts", REFUSED, "/{S}/hosts", "Host: gate\r\nHost: other\r\n"),
        get("no host", REFUSED, "/{S}/nohost", ""),
        get("list of hosts", REFUSED, "/{S}/list", "Host: gate, other\r\n"),
        get("absolute target", &[200], "http://gate/{S}/absolute", "Host: gate\r\n"),
        get("absolute target of another host", REFUSED, "http://other/{S}/absolute", "Host: gate\r\n"),
        get("target with user", REFUSED, "http://a@gate/{S}/user", "Host: gate\r\n"),
        get("request line in the target", REFUSED, "/{S}/a HTTP/1.1\r\nX: b\r\n\r\nGET /{S}/hidden", "Host: gate\r\n"),
        get(
            "escaped request line",
            REFUSED,
            "/{S}/a%20HTTP/1.1%0d%0aHost:%20gate%0d%0a%0d%0aGET%20/{S}/hidden",
            "Host: gate\r\n",
        ),
        row("two blanks", REFUSED, "GET  /{S}/blanks HTTP/1.1\r\nHost: gate\r\n\r\n"),
        row("line feeds only", REFUSED, format!("GET /{{S}}/feeds HTTP/1.1\nHost: gate\n\n{HIDDEN}")),
        row("no version", REFUSED, format!("GET /{{S}}/nine\r\n\r\n{HIDDEN}")),
        row("other version", REFUSED, format!("GET /{{S}}/two HTTP/2.0\r\nHost: gate\r\n\r\n{HIDDEN}")),
        row(
            "length of a connection header",
            &[200, 200],
            format!(
                "POST /{{S}}/named HTTP/1.1\r\nHost: gate\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello{HIDDEN}"
            ),
        ),
        row(
            "upgrade to HTTP/2",
            &[200, 200],
            format!(
                "GET /{{S}}/h2c HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{HIDDEN}"
            ),
        ),
    ]
}

fn pipelines() -> Vec<AmbiguousRequest> {
    vec![
        row("two requests", &[200, 200], format!("GET /{{S}}/first HTTP/1.1\r\nHost: gate\r\n\r\n{HIDDEN}")),
        row(
            "body of a GET",
            &[200, 200],
            format!("GET /{{S}}/body HTTP/1.1\r\nHost: gate\r\nContent-Length: 5\r\n\r\nhello{HIDDEN}"),
        ),
        row(
            "body of a HEAD",
            &[200],
            format!(
                "HEAD /{{S}}/head HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello{HIDDEN}"
            ),
        ),
        row(
            "after the end of the connection",
            &[200],
            format!("GET /{{S}}/last HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n{HIDDEN}"),
        ),
        row(
            "body that is expected",
            &[200],
            format!(
                "POST /{{S}}/expect HTTP/1.1\r\nHost: gate\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello{HIDDEN}"
            ),
        ),
        row(
            "line ends before a request",
            &[200, 200],
            format!("POST /{{S}}/blank HTTP/1.1\r\nHost: gate\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n{HIDDEN}"),
        ),
        cut("body that is cut", "Content-Length: 1000\r\n", HIDDEN),
        cut("chunks that are cut", "Transfer-Encoding: chunked\r\n", &format!("ff\r\n{HIDDEN}")),
    ]
}
