//! A page of a bucket's listing (AWS "ListObjectsV2", response syntax).

use rusty_s3::actions::ListObjectsV2;

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingPage {
    /// The objects, without those that stand for folders.
    pub objects: Vec<ListedObject>,
    /// Token with which the next page is asked for; `None` on the last page.
    pub continuation_token: Option<String>,
}

/// Parses a page; `None` where the text is not one. Keys that end with a slash are left out: they stand for folders.
pub fn parse_page(text: &str) -> Option<ListingPage> {
    let listed = ListObjectsV2::parse_response(text).ok()?;
    let object = |listed: rusty_s3::actions::list_objects_v2::ListObjectsContent| ListedObject {
        // The parser has decoded it: the listing is asked for with `encoding-type=url`.
        key: listed.key,
        size: listed.size,
    };
    let objects = listed.contents.into_iter().map(object).filter(|object| !object.key.ends_with('/')).collect();
    Some(ListingPage { objects, continuation_token: listed.next_continuation_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_objects_and_where_the_next_begins() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>n</NextContinuationToken><Contents><Key>a/%C3%BC.mp3</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents><Contents><Key>a/</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>0</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"#;
        let object = ListedObject { key: "a/\u{fc}.mp3".into(), size: Some(5) };
        assert_eq!(parse_page(text), Some(ListingPage { objects: vec![object], continuation_token: Some("n".into()) }));
        assert_eq!(parse_page("<html>"), None);
    }
}
