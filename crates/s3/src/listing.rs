//! A page of a bucket's listing (AWS "ListObjectsV2", response syntax).

use jiff::Timestamp;
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

/// An object of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderObject {
    /// Its name in the folder.
    pub name: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Time when it was stored.
    pub modified: Option<Timestamp>,
}

/// A page of the listing of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderPage {
    /// Names of the folders in it, without the slash at their ends.
    pub folders: Vec<String>,
    /// The objects in it.
    pub objects: Vec<FolderObject>,
    /// Token with which the next page is asked for; `None` on the last page.
    pub continuation_token: Option<String>,
}

/// Parses a page of the listing of the folder `prefix`, which is empty or ends with a slash; `None` where the text is not one. Names
/// that no request can ask for (empty, `.`, `..`) are left out, and so is the object that stands for the folder itself.
pub fn parse_folder_page(text: &str, prefix: &str) -> Option<FolderPage> {
    let listed = ListObjectsV2::parse_response(text).ok()?;
    let name = |key: &str| key.strip_prefix(prefix).filter(|name| is_name(name)).map(str::to_owned);
    let folders = listed.common_prefixes.iter().filter_map(|folder| name(folder.prefix.strip_suffix('/')?)).collect();
    let objects = listed.contents.iter().filter_map(|object| {
        let modified = object.last_modified.as_ref().and_then(|time| time.parse().ok());
        Some(FolderObject { name: name(&object.key)?, size: object.size, modified })
    });
    Some(FolderPage { folders, objects: objects.collect(), continuation_token: listed.next_continuation_token })
}

/// Returns true for the name of something in a folder that a path can name.
fn is_name(name: &str) -> bool {
    // A store that ignores the delimiter lists what is deeper: that belongs to other folders.
    !matches!(name, "" | "." | "..") && !name.contains('/') && !name.contains(['\0', '\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_names_and_nothing_of_its_bucket() {
        let object = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2024-05-06T07:08:09.123Z</LastModified><Size>5</Size></Contents>"
            )
        };
        let folder = |prefix: &str| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>");
        let entries: String = ["a/", "a/%C3%BC.mp3", "a/deep/x", "b/other", "a/.."].map(object).concat();
        let folders: String = ["a/one/", "a//", "a/%3Cb%3E/"].map(folder).concat();
        let text = format!(
            r#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>a/</Prefix><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{entries}{folders}</ListBucketResult>"#
        );
        let page = parse_folder_page(&text, "a/").expect("a page");
        assert_eq!(page.folders, ["one", "<b>"]);
        let modified = "2024-05-06T07:08:09.123Z".parse().ok();
        assert_eq!(page.objects, [FolderObject { name: "\u{fc}.mp3".into(), size: Some(5), modified }]);
        assert_eq!((page.continuation_token, parse_folder_page("<html>", "")), (None, None));
    }

    #[test]
    fn a_page_has_its_objects_and_where_the_next_begins() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>n</NextContinuationToken><Contents><Key>a/%C3%BC.mp3</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents><Contents><Key>a/</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>0</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"#;
        let object = ListedObject { key: "a/\u{fc}.mp3".into(), size: Some(5) };
        assert_eq!(parse_page(text), Some(ListingPage { objects: vec![object], continuation_token: Some("n".into()) }));
        assert_eq!(parse_page("<html>"), None);
    }
}
