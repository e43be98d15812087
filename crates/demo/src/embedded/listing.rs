//! ListObjectsV2: the keys of a bucket in the order of their bytes, in pages, with what shares a prefix rolled up.
//!
//! A page reads the names of all folders that its prefix can reach, and looks at the files of the page only: right for
//! a folder on one machine, not for millions of objects.

use std::path::PathBuf;

use cap_std::fs::Dir;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::{CommonPrefix, ETag, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object};
use s3s::{S3Error, S3Result, s3_error};

use super::folder::{FileIdentity, FolderError, segment};

/// Bytes that `encoding-type=url` and continuation tokens leave as they are.
const UNESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The longest key that S3 knows; a longer path cannot be asked for.
const MAX_KEY_BYTES: usize = 1024;

/// Most keys and prefixes of one page.
const MAX_PAGE_KEYS: i32 = 1000;

/// A key with its file.
struct ListingEntry {
    key: String,
    path: PathBuf,
}

/// Returns one page of the keys in `bucket`. Fails where a folder cannot be read or the continuation token is not one
/// of ours.
pub(super) fn list(bucket: &Dir, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let after = input.start_after.as_deref().unwrap_or_default();
    // A larger `max-keys` means 1,000, as on AWS.
    let page = usize::try_from(input.max_keys.unwrap_or(MAX_PAGE_KEYS).clamp(0, MAX_PAGE_KEYS)).unwrap_or(0);
    let token = input.continuation_token.as_deref().map(decode_token).transpose()?.unwrap_or_default();
    let url = input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
    let show = |text: &str| if url { encode_token(text) } else { text.to_owned() };

    let mut entries = entries(bucket, prefix)?;
    entries.retain(|entry| entry.key.as_str() > after);
    entries.sort_by(|one, other| one.key.cmp(&other.key));

    let (mut contents, mut prefixes) = (Vec::new(), Vec::<CommonPrefix>::new());
    let (mut last, mut truncated) = (token, false);
    for entry in entries {
        let rolled = delimiter.and_then(|delimiter| common_prefix(&entry.key, prefix, delimiter));
        let shown = rolled.unwrap_or(&entry.key);
        // Shown on an earlier page, or as a prefix on this one.
        if shown <= last.as_str() {
            continue;
        }
        if contents.len() + prefixes.len() == page {
            // With `max-keys=0` there is no next page: its token would lead back to the same place.
            truncated = page > 0;
            break;
        }
        if let Some(rolled) = rolled {
            prefixes.push(CommonPrefix { prefix: Some(show(rolled)) });
        } else if let Some(object) = object(bucket, &entry, show(&entry.key))? {
            contents.push(object);
        }
        shown.clone_into(&mut last);
    }

    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
        max_keys: i32::try_from(page).ok(),
        is_truncated: Some(truncated),
        next_continuation_token: truncated.then(|| encode_token(&last)),
        continuation_token: input.continuation_token,
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        prefix: input.prefix.as_deref().map(show),
        delimiter: input.delimiter.as_deref().map(show),
        start_after: input.start_after.as_deref().map(show),
        encoding_type: input.encoding_type,
        ..ListObjectsV2Output::default()
    })
}

/// Returns all keys that start with `prefix`, in no order.
fn entries(bucket: &Dir, prefix: &str) -> Result<Vec<ListingEntry>, FolderError> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::from("."), String::new())];
    while let Some((folder, above)) = folders.pop() {
        for entry in bucket.read_dir(&folder)? {
            let entry = entry?;
            // A name that is not UTF-8 cannot be asked for.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let mut key = format!("{above}{}", segment(&name));
            let path = folder.join(&name);
            let kind = entry.file_type()?;
            if kind.is_dir() {
                key.push('/');
                if key.len() <= MAX_KEY_BYTES && (key.starts_with(prefix) || prefix.starts_with(&key)) {
                    folders.push((path, key));
                }
            } else if key.len() <= MAX_KEY_BYTES && key.starts_with(prefix) {
                // A link counts by what it leads to; linked folders are not walked, since they may go round.
                if kind.is_file() || bucket.metadata(&path).is_ok_and(|target| target.is_file()) {
                    found.push(ListingEntry { key, path });
                }
            }
        }
    }
    Ok(found)
}

/// Returns the part of a key up to and with the first `delimiter` after `prefix`.
fn common_prefix<'a>(key: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    let rest = key.get(prefix.len()..)?;
    let end = prefix.len() + rest.find(delimiter)? + delimiter.len();
    key.get(..end)
}

/// Returns the listing's entry of an object; `None` where it is gone since its name was read.
fn object(bucket: &Dir, entry: &ListingEntry, key: String) -> Result<Option<Object>, S3Error> {
    let Ok(file) = bucket.open(&entry.path) else { return Ok(None) };
    let identity = FileIdentity::from_metadata(&file.into_std().metadata().map_err(S3Error::internal_error)?);
    Ok(Some(Object {
        key: Some(key),
        size: i64::try_from(identity.size).ok(),
        e_tag: Some(ETag::Strong(identity.entity_tag())),
        last_modified: Some(identity.modified().into()),
        ..Object::default()
    }))
}

/// Encodes a text as a continuation token. A token is the last key or prefix of the page before, so that it survives
/// changes in between.
fn encode_token(text: &str) -> String {
    utf8_percent_encode(text, UNESCAPED).to_string()
}

fn decode_token(token: &str) -> S3Result<String> {
    let text = percent_decode_str(token).decode_utf8();
    text.map(Into::into).map_err(|_| s3_error!(InvalidArgument, "The continuation token is not one of ours."))
}
