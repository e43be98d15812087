//! Responses of an OCSP responder, which are shown with a certificate (RFC 6066 §8, RFC 6960 §4.2.1). One that clients would
//! refuse is not shown: a client that asks for it ends the handshake, while one without it goes on. Signatures are the
//! clients' to verify.

use std::path::{Path, PathBuf};

use primitives::regular_file;
use x509_parser::der_parser::asn1_rs::{Any, Class, FromDer as _, Tag};
use x509_parser::time::ASN1Time;

use crate::client_certificate::without_sign;

/// Most bytes of a file: a response with the chain of its responder has a few thousand.
const MAX_BYTES: u64 = 1024 * 1024;
/// Content of the identifier of basic responses, id-pkix-ocsp-basic (RFC 6960 §4.2.1), 1.3.6.1.5.5.7.48.1.1.
const BASIC_RESPONSE: [u8; 9] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// Longest time before its end in which a response is warned of, in seconds; the last quarter of its time where that is
/// shorter.
const MAX_END_WARNING: i64 = 24 * 60 * 60;

/// Reason why a response is never shown.
#[derive(Debug, thiserror::Error)]
enum OcspError {
    #[error("it cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("it is cut, or no OCSP response; expected DER, as `openssl ocsp -respout` writes it")]
    Malformed,
    #[error("the responder answered with an error")]
    ResponderError,
    #[error("it is about another certificate")]
    OtherCertificate,
    #[error("it says that the certificate is revoked")]
    Revoked,
    #[error("it says that the authority does not know the certificate")]
    UnknownCertificate,
    #[error("it does not say until when it holds (nextUpdate)")]
    WithoutEnd,
}

/// Response that says that a certificate is good, for a time.
#[derive(Clone, Copy, Debug)]
struct GoodStatus {
    this_update: ASN1Time,
    next_update: ASN1Time,
}

/// Response of the settings, about one certificate.
#[derive(Debug)]
pub struct OcspStaple {
    path: PathBuf,
    outcome: Result<(Vec<u8>, GoodStatus), OcspError>,
}

impl OcspStaple {
    /// Reads the response at `path` about the certificate `leaf`, which blocks.
    pub fn read(path: &Path, leaf: &[u8]) -> Self {
        let outcome = regular_file::read(path, MAX_BYTES).map_err(OcspError::File);
        let outcome = outcome.and_then(|response| parse(&response, leaf).map(|status| (response, status)));
        Self { path: path.to_owned(), outcome }
    }

    /// Returns the response, whatever the time is; `None` where it is never shown.
    pub fn response(&self) -> Option<&[u8]> {
        self.outcome.as_ref().ok().map(|(response, _)| response.as_slice())
    }

    /// Returns true where the response may be shown at `now`, in Unix seconds.
    pub fn is_current(&self, now: i64) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|(_, status)| (status.this_update.timestamp()..status.next_update.timestamp()).contains(&now))
    }

    /// Returns the Unix second from which on the response is not shown; 0 where it never is.
    pub fn end(&self) -> i64 {
        self.outcome.as_ref().map_or(0, |(_, status)| status.next_update.timestamp())
    }

    /// Returns a warning at `now`, in Unix seconds: the response is not shown, or soon will not be. It is the same for as
    /// long as its reason is.
    pub fn warning(&self, now: i64) -> Option<String> {
        let path = self.path.display();
        let status = match &self.outcome {
            Ok((_, status)) => status,
            Err(error) => return Some(format!("the OCSP response {path} is not shown: {error}")),
        };
        let GoodStatus { this_update, next_update } = status;
        let (begin, end) = (this_update.timestamp(), next_update.timestamp());
        let soon = end - ((end - begin) / 4).min(MAX_END_WARNING);
        if now < begin {
            Some(format!("the OCSP response {path} is not shown: it holds from {this_update} on"))
        } else if now >= end {
            Some(format!("the OCSP response {path} is not shown: it has ended at {next_update}, and was not renewed"))
        } else if now >= soon {
            Some(format!("the OCSP response {path} ends at {next_update}, and was not renewed"))
        } else {
            None
        }
    }
}

/// Reads what `response` says about the certificate `leaf`.
fn parse(response: &[u8], leaf: &[u8]) -> Result<GoodStatus, OcspError> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| OcspError::OtherCertificate)?;
    let serial = without_sign(leaf.raw_serial());
    let mut basic = Reader(basic_response(response)?);
    let mut data = Reader(basic.value(Tag::Sequence)?);
    // The algorithm and the signature: without them it is cut.
    basic.value(Tag::Sequence)?;
    basic.value(Tag::BitString)?;
    data.optional_part(0)?;
    // The responder's name or key, and when it has answered.
    data.any()?;
    data.value(Tag::GeneralizedTime)?;
    let mut responses = Reader(data.value(Tag::Sequence)?);
    while !responses.0.is_empty() {
        let mut single = Reader(responses.value(Tag::Sequence)?);
        let mut id = Reader(single.value(Tag::Sequence)?);
        // The algorithm of the hashes, and those of the authority's name and key.
        id.value(Tag::Sequence)?;
        id.value(Tag::OctetString)?;
        id.value(Tag::OctetString)?;
        if without_sign(id.value(Tag::Integer)?) == serial {
            return status(single);
        }
    }
    Err(OcspError::OtherCertificate)
}

/// Returns the content of the basic response in `response`.
fn basic_response(response: &[u8]) -> Result<&[u8], OcspError> {
    let mut outer = Reader(response);
    let mut outer_content = Reader(outer.value(Tag::Sequence)?);
    if !outer.0.is_empty() {
        return Err(OcspError::Malformed);
    }
    if outer_content.value(Tag::Enumerated)? != [0] {
        return Err(OcspError::ResponderError);
    }
    let bytes = outer_content.optional_part(0)?.ok_or(OcspError::Malformed)?;
    let mut bytes = Reader(Reader(bytes).value(Tag::Sequence)?);
    if bytes.value(Tag::Oid)? != BASIC_RESPONSE {
        return Err(OcspError::Malformed);
    }
    Reader(bytes.value(Tag::OctetString)?).value(Tag::Sequence)
}

/// Reads the status of one certificate, and its time, behind the certificate's id.
fn status(mut single: Reader<'_>) -> Result<GoodStatus, OcspError> {
    let status = single.any()?;
    match (status.class(), status.tag()) {
        (Class::ContextSpecific, Tag(0)) => {}
        (Class::ContextSpecific, Tag(1)) => return Err(OcspError::Revoked),
        (Class::ContextSpecific, Tag(2)) => return Err(OcspError::UnknownCertificate),
        _ => return Err(OcspError::Malformed),
    }
    let this_update = single.time()?;
    let end = single.optional_part(0)?.ok_or(OcspError::WithoutEnd)?;
    Ok(GoodStatus { this_update, next_update: Reader(end).time()? })
}

/// Values in DER, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes the next value.
    fn any(&mut self) -> Result<Any<'a>, OcspError> {
        let (rest, value) = Any::from_der(self.0).map_err(|_| OcspError::Malformed)?;
        self.0 = rest;
        Ok(value)
    }

    /// Takes the content of the next value, which has this type.
    fn value(&mut self, tag: Tag) -> Result<&'a [u8], OcspError> {
        let value = self.any()?;
        let is_expected = value.class() == Class::Universal && value.tag() == tag;
        if is_expected { Ok(value.data) } else { Err(OcspError::Malformed) }
    }

    /// Takes the content of the next value, where that is the part `[number]`, which may be missing.
    fn optional_part(&mut self, number: u32) -> Result<Option<&'a [u8]>, OcspError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let before = self.0;
        let value = self.any()?;
        if value.class() == Class::ContextSpecific && value.tag() == Tag(number) {
            return Ok(Some(value.data));
        }
        self.0 = before;
        Ok(None)
    }

    /// Takes a time.
    fn time(&mut self) -> Result<ASN1Time, OcspError> {
        let (rest, time) = ASN1Time::from_der(self.0).map_err(|_| OcspError::Malformed)?;
        self.0 = rest;
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staple(begin: i64, end: i64) -> OcspStaple {
        let time = |seconds| ASN1Time::from_timestamp(seconds).expect("a time");
        let status = GoodStatus { this_update: time(begin), next_update: time(end) };
        OcspStaple { path: "a.ocsp".into(), outcome: Ok((vec![1], status)) }
    }

    #[test]
    fn a_response_is_shown_for_its_time_and_warned_of_before_its_end() {
        let (begin, hour) = (1_700_000_000, 3600);
        for (length, at, is_shown, warning) in [
            (4 * hour, begin - 1, false, "it holds from"),
            (4 * hour, begin, true, ""),
            (4 * hour, begin + 3 * hour - 1, true, ""),
            (4 * hour, begin + 3 * hour, true, "ends at"),
            (4 * hour, begin + 4 * hour, false, "has ended at"),
            (240 * hour, begin + 216 * hour - 1, true, ""),
            (240 * hour, begin + 216 * hour, true, "ends at"),
        ] {
            let staple = staple(begin, begin + length);
            let found = staple.warning(at).unwrap_or_default();
            assert_eq!(staple.is_current(at), is_shown, "{length} {at}");
            assert!(found.contains(warning) && found.is_empty() == warning.is_empty(), "{length} {at}: {found}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        // A response up to the first certificate, cut and changed everywhere.
        let mut bytes = vec![0x30, 0x1b, 0x0a, 0x01, 0x00, 0xa0, 0x16, 0x30, 0x14, 0x06, 0x09];
        bytes.extend(BASIC_RESPONSE);
        bytes.extend([0x04, 0x07, 0x30, 0x05, 0x30, 0x03, 0x18, 0x01, 0x30]);
        assert!(matches!(parse(&bytes, leaf.der()), Err(OcspError::Malformed)));
        for at in 0..bytes.len() {
            assert!(parse(&bytes[..at], leaf.der()).is_err());
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                assert!(parse(&changed, leaf.der()).is_err());
            }
        }
    }
}
