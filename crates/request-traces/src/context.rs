//! Context of a trace on the wire: `traceparent` and `tracestate` (W3C Trace Context, level 2), read and written. Pure but
//! for the drawing of ids.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header with the trace's id, the caller's span and whether the trace is sampled (§3.2).
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Header with what the tracing systems on the way keep for themselves (§3.3).
pub const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// Flag of a trace that is sampled (§3.2.2.3.1).
const SAMPLED: u8 = 0x01;
/// Flag of a trace whose id was drawn at random (§3.2.2.3.2).
const RANDOM: u8 = 0x02;
/// Length of a `traceparent` of version 00, in bytes.
const PARENT_LENGTH: usize = 55;
/// Most members of a `tracestate` (§3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Longest `tracestate` that is passed on, in bytes: what the text wants passed on at least (§3.3.1.5).
const MAX_STATE: usize = 512;
/// Members longer than this are the first that are left out of a `tracestate` which is too long (§3.3.1.5).
const LONG_MEMBER: usize = 128;

/// Id of a trace; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Id of a span; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// Draws an id.
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }

    /// Returns its bytes, the first one first.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// Draws an id.
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1).to_be_bytes())
    }

    /// Returns its bytes, the first one first.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Members of a `tracestate` that are passed on as they came, within the bounds of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(Box<str>);

/// Position in a trace: the span that the next one is below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// True where whoever began the trace records it.
    pub is_sampled: bool,
    /// True where the trace's id was drawn at random.
    pub is_random: bool,
    /// What other tracing systems keep for themselves.
    pub state: Option<TraceState>,
}

impl TraceContext {
    /// Begins a trace.
    pub fn begin(is_sampled: bool) -> Self {
        Self { trace_id: TraceId::random(), span_id: SpanId::random(), is_sampled, is_random: true, state: None }
    }

    /// Reads the context of a request; `None` where it has none, or more than one, or one that is malformed. A malformed
    /// `tracestate` is left out (§3.3.1.3).
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACE_PARENT).iter();
        let parent = Self::parse_parent(parents.next()?.to_str().ok()?)?;
        parents.next().is_none().then(|| Self { state: TraceState::from_headers(headers), ..parent })
    }

    /// Reads a `traceparent`. One of a later version is read as far as this one goes (§4).
    fn parse_parent(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(PARENT_LENGTH)?;
        let mut fields = known.split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let version = u8::from_be_bytes(hexadecimal(version)?);
        let is_whole = match version {
            0xff => false,
            0 => more.is_empty(),
            _ => more.is_empty() || more.starts_with('-'),
        };
        let (trace_id, span_id) = (TraceId(hexadecimal(trace)?), SpanId(hexadecimal(span)?));
        let flags = u8::from_be_bytes(hexadecimal(flags)?);
        let is_good = is_whole && fields.next().is_none() && trace_id.0 != [0; 16] && span_id.0 != [0; 8];
        is_good.then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & SAMPLED != 0,
            is_random: flags & RANDOM != 0,
            state: None,
        })
    }

    /// Returns the position at another span of the trace.
    pub fn at(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// Returns the value of `traceparent`.
    pub fn parent(&self) -> String {
        let flags = (u8::from(self.is_sampled) * SAMPLED) | (u8::from(self.is_random) * RANDOM);
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }

    /// Writes it in place of whatever context `headers` have.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACE_STATE);
        let parent = HeaderValue::try_from(self.parent()).expect("hexadecimal digits and hyphens");
        headers.insert(TRACE_PARENT, parent);
        if let Some(TraceState(state)) = &self.state {
            headers.insert(TRACE_STATE, HeaderValue::from_str(state).expect("it came as a header"));
        }
    }
}

impl TraceState {
    /// Returns its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Joins the lines of `tracestate`; `None` where there is none or they are malformed (§3.3.1).
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut members: Vec<&str> = Vec::new();
        for line in headers.get_all(TRACE_STATE) {
            for member in line.to_str().ok()?.split(',').map(|member| member.trim_matches([' ', '\t'])) {
                // Empty ones are allowed.
                if !member.is_empty() {
                    members.push(member);
                }
            }
            if members.len() > MAX_MEMBERS {
                return None;
            }
        }
        let keys: Vec<&str> = members.iter().map(|member| member_key(member)).collect::<Option<_>>()?;
        let is_twice = keys.iter().enumerate().any(|(number, key)| keys[..number].contains(key));
        let state = Self::within_bounds(members);
        (!is_twice && !state.0.is_empty()).then_some(state)
    }

    /// Leaves out whole members until the rest is short enough: long ones first, then from the end.
    fn within_bounds(mut members: Vec<&str>) -> Self {
        let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
        while length(&members) > MAX_STATE {
            let longest = members.iter().rposition(|member| member.len() > LONG_MEMBER);
            members.remove(longest.unwrap_or(members.len() - 1));
        }
        Self(members.join(",").into())
    }
}

/// Returns the key of a member `key=value`; `None` where it is malformed (§3.3.1.3).
fn member_key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_of_key = |byte: u8| is_plain(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    let is_key = key.len() <= 256 && key.bytes().next().is_some_and(is_plain) && key.bytes().all(is_of_key);
    let is_of_value = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    let is_value = (1..=256).contains(&value.len()) && value.bytes().all(is_of_value);
    (is_key && is_value).then_some(key)
}

/// Reads bytes in lower-case hexadecimal digits, as the text wants them.
fn hexadecimal<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [digit(pair[0])?, digit(pair[1])?];
        *byte = (high << 4) | low;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn read(parent: &str) -> Option<TraceContext> {
        TraceContext::from_headers(&headers(&[(TRACE_PARENT, parent)]))
    }

    #[test]
    fn the_examples_of_the_text_are_read_and_written() {
        for (flags, is_sampled, is_random) in
            [("00", false, false), ("01", true, false), ("02", false, true), ("03", true, true), ("09", true, false)]
        {
            let context = read(&format!("00-{TRACE}-{SPAN}-{flags}")).expect("an example of the text");
            assert_eq!((context.trace_id.to_string(), context.span_id.to_string()), (TRACE.into(), SPAN.into()));
            assert_eq!((context.is_sampled, context.is_random), (is_sampled, is_random), "{flags}");
            // Flags that are not known are written as zeros (§3.2.2.3.3).
            let written = if flags == "09" { "01" } else { flags };
            assert_eq!(context.parent(), format!("00-{TRACE}-{SPAN}-{written}"));
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_this_one_goes() {
        let whole = format!("-{TRACE}-{SPAN}-01");
        for (parent, is_read) in [
            (format!("cc{whole}"), true),
            (format!("cc{whole}-what-the-future-will-be-like"), true),
            (format!("cc{whole}."), false),
            (format!("ff{whole}"), false),
            (format!("00{whole}-what-the-future-will-be-like"), false),
        ] {
            assert_eq!(read(&parent).is_some(), is_read, "{parent}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        let zeros = "0000000000000000";
        for parent in [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zeros}{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{zeros}-01"),
            format!("00-{}-{SPAN}-01", TRACE.replace('4', "g")),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}é-{SPAN}-1"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(TraceContext::parse_parent(&parent), None, "{parent}");
        }
        let one = format!("00-{TRACE}-{SPAN}-01");
        let twice = headers(&[(TRACE_PARENT, &one), (TRACE_PARENT, &one)]);
        assert_eq!(TraceContext::from_headers(&twice), None, "two parents");
    }

    #[test]
    fn the_state_of_other_systems_is_passed_on_where_it_is_well_formed() {
        let many = |count: usize| (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        let full = many(32);
        for (lines, expected) in [
            (&["congo=t61rcWkgMzE"][..], Some("congo=t61rcWkgMzE")),
            (&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
            (&["rojo=1", "congo=2"], Some("rojo=1,congo=2")),
            (&["rojo=1 ,\t congo=2,,"], Some("rojo=1,congo=2")),
            (&["fw529a3039@dt=FfFfFfFf,a*/_-=~ !"], Some("fw529a3039@dt=FfFfFfFf,a*/_-=~ !")),
            (&["0day=1"], Some("0day=1")),
            (&[full.as_str()], Some(full.as_str())),
            (&[many(33).as_str()], None),
            (&["rojo=1,rojo=2"], None),
            (&["Rojo=1"], None),
            (&["rojo"], None),
            (&["rojo="], None),
            (&["=1"], None),
            (&["rojo=a=b"], None),
            (&["ro jo=1"], None),
            (&[","], None),
            (&[], None),
        ] {
            let mut lines: Vec<_> = lines.iter().map(|line| (TRACE_STATE, *line)).collect();
            let parent = format!("00-{TRACE}-{SPAN}-01");
            lines.push((TRACE_PARENT, &parent));
            let context = TraceContext::from_headers(&headers(&lines)).expect("the parent is good");
            assert_eq!(context.state.as_ref().map(TraceState::as_str), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_long_state_loses_whole_members_the_long_ones_first() {
        let member = |key: &str, length: usize| format!("{key}={}", "v".repeat(length - key.len() - 1));
        let (long, short) = (member("long", 200), member("short", 100));
        let numbered = |number: usize| member(&format!("k{number}"), 128);
        let all = [numbered(0), long, short.clone(), numbered(1), numbered(2), numbered(3)];
        let kept = TraceState::within_bounds(all.iter().map(String::as_str).collect());
        assert_eq!(kept.as_str(), [numbered(0), short, numbered(1), numbered(2)].join(","));
        assert!(kept.as_str().len() <= MAX_STATE);
    }

    #[test]
    fn a_context_takes_the_place_of_the_one_that_came() {
        let mut sent = headers(&[(TRACE_PARENT, "x"), (TRACE_PARENT, "y"), (TRACE_STATE, "z")]);
        let context = TraceContext::begin(true);
        context.write(&mut sent);
        assert_eq!(TraceContext::from_headers(&sent), Some(context.clone()));
        assert_eq!((sent.len(), sent.get(TRACE_STATE)), (1, None));
        assert!(context.parent().ends_with("-03"), "a new id is drawn at random: {}", context.parent());
        let state = TraceState("rojo=1".into());
        TraceContext { state: Some(state), ..context }.write(&mut sent);
        assert_eq!(sent.get(TRACE_STATE).map(HeaderValue::as_bytes), Some(&b"rojo=1"[..]));
    }
}
