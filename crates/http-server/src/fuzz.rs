//! Fuzz targets of what clients send before anybody knows them: request heads, bodies, headers of the PROXY protocol.

use bytes::{Bytes, BytesMut};
use fuzz_inputs::{FuzzInput, FuzzInputs, check};
use http::header;

use crate::connection_limits::MAX_HEADER_LINES;
use crate::http1::{BodyStep, RequestBodyDecoder, find_end, parse};
use crate::proxy_protocol;

const MEMBER: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn request_heads() {
    let tokens: &[&[u8]] = &[
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"\x7f",
        b"\xff",
        b"%00",
        b"%2e%2e/",
        b"//",
        b"?",
        b"#",
        b"@",
        b"Host: other\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 05, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b" folded\r\n",
        b"GET ",
        b"CONNECT ",
        b"OPTIONS * ",
        b"http://other/",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/2.0",
        b"chunked",
    ];
    let inputs = FuzzInputs::new(MEMBER, "request_heads", tokens);
    inputs.each_sample(request_head);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| request_head(input));
}

/// A head that is taken says one thing only, to whomever it is passed on.
fn request_head(input: &[u8]) {
    let Some(end) = find_end(input, 0) else { return };
    // However far it was searched before.
    for searched in 0..end {
        assert_eq!(find_end(input, searched.saturating_sub(3)), Some(end), "searched before: {searched}");
    }
    let head = Bytes::copy_from_slice(&input[..end]);
    let Ok(parts) = parse(&head, MAX_HEADER_LINES) else { return };
    assert!(head.ends_with(b"\r\n\r\n") && head.windows(2).all(|pair| pair[1] != b'\n' || pair[0] == b'\r'));
    assert!(parts.headers.get_all(header::HOST).iter().count() <= 1);
    let lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let encodings: Vec<_> = parts.headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    assert!(lengths + encodings.len() <= 1, "two framings: {:?}", parts.headers);
    assert!(encodings.iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked")), "{encodings:?}");
    let length = parts.headers.get(header::CONTENT_LENGTH).map(|value| value.as_bytes());
    assert!(length.is_none_or(|length| !length.is_empty() && length.iter().all(u8::is_ascii_digit)), "{length:?}");
    for (name, value) in &parts.headers {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}: {value:?}");
    }
    // Written anew it is the same request, and a body is framed as it was.
    let mut again = format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version).into_bytes();
    for (name, value) in &parts.headers {
        again.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    again.extend(b"\r\n");
    let reread = parse(&Bytes::from(again), MAX_HEADER_LINES).expect("what was taken once is taken again");
    assert_eq!((&reread.method, &reread.uri, reread.version), (&parts.method, &parts.uri, parts.version));
    assert_eq!(reread.headers, parts.headers);
}

#[test]
fn chunked_bodies() {
    let tokens: &[&[u8]] = &[
        b"\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"\n",
        b"\r",
        b";a=b",
        b";a=\"b\\\"\"",
        b"5\r\nhello\r\n",
        b"ffffffffffffffff",
        b"10000000000000000",
        b"0x5",
        b"+5",
        b"-1",
        b" ",
        b"\t",
        b"00000000000000000005",
        b"a: b\r\n",
        b"Content-Length: 5\r\n",
        b"\0",
        b"\xff",
    ];
    let inputs = FuzzInputs::new(MEMBER, "chunked_bodies", tokens);
    inputs.each_sample(chunked_body);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| chunked_body(input));
}

/// Content of a body, and the bytes behind its end; an error as such.
#[derive(Debug, PartialEq, Eq)]
enum ReadBody {
    Whole(Vec<u8>, usize),
    Malformed,
    Unfinished(Vec<u8>),
}

/// Reads the body that comes in pieces of so many bytes.
fn read_body(input: &[u8], piece: usize) -> ReadBody {
    let headers = [(header::TRANSFER_ENCODING, http::HeaderValue::from_static("chunked"))].into_iter().collect();
    let (mut decoder, mut ahead, mut content) =
        (RequestBodyDecoder::from_headers(&headers), BytesMut::new(), Vec::new());
    let mut pieces = input.chunks(piece.max(1));
    loop {
        match decoder.next(&mut ahead) {
            Err(_) => return ReadBody::Malformed,
            Ok(BodyStep::End) => return ReadBody::Whole(content, ahead.len() + pieces.map(<[u8]>::len).sum::<usize>()),
            Ok(BodyStep::Data(bytes)) => {
                assert!(!bytes.is_empty());
                content.extend_from_slice(&bytes);
            }
            Ok(BodyStep::NeedsMore(room)) => {
                assert!(room > 0);
                match pieces.next() {
                    Some(piece) => ahead.extend_from_slice(piece),
                    None => return ReadBody::Unfinished(content),
                }
            }
        }
    }
}

/// A body is the same however it is cut, and is written anew by its content alone.
fn chunked_body(input: &[u8]) {
    let whole = read_body(input, input.len());
    for piece in [1, 2, 3, 7, 100] {
        assert_eq!(read_body(input, piece), whole, "in pieces of {piece}");
    }
    if let ReadBody::Whole(content, behind) = whole {
        let body = &input[..input.len() - behind];
        assert!(content.len() < body.len() && body.ends_with(b"\r\n"));
        // What is behind belongs to the next request, whatever it is.
        assert_eq!(read_body(&[body, b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"].concat(), 5), ReadBody::Whole(content, 23));
    }
}

#[test]
fn proxy_headers() {
    let tokens: &[&[u8]] = &[
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"\r\n",
        b"\n",
        b" ",
        b"255.255.255.255",
        b"::ffff:1.2.3.4",
        b"65535",
        b"65536",
        b"0",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x20",
        b"\x21",
        b"\x11",
        b"\x21\x00\x24",
        b"\x31\x00\xd8",
        b"\xff\xff",
        b"\0\0",
        b"\x04\0\x01\0",
    ];
    let inputs = FuzzInputs::new(MEMBER, "proxy_headers", tokens);
    inputs.each_sample(proxy_header);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| proxy_header(input));
}

/// A header is the same whatever follows it, and nothing that could still become one is refused before.
fn proxy_header(input: &[u8]) {
    let outcome = proxy_protocol::parse(input);
    match &outcome {
        Ok(Some(header)) => {
            assert!(header.length <= input.len() && header.length <= proxy_protocol::MAX_HEADER && header.length > 0);
            for end in 0..header.length {
                assert_eq!(proxy_protocol::parse(&input[..end]), Ok(None), "cut at {end}");
            }
            let followed = [&input[..header.length], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(proxy_protocol::parse(&followed), outcome);
        }
        // More of it can be waited for: then it is within the limit.
        Ok(None) => assert!(input.len() < proxy_protocol::MAX_HEADER),
        // Of what is refused once, no continuation is taken.
        Err(_) => assert!(proxy_protocol::parse(&[input, b"\r\n"].concat()).is_err()),
    }
}
