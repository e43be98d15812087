//! The folder of the embedded store: maps objects to files, and never to a file outside of it.
//!
//! All paths are resolved inside a bucket's own directory handle (`cap-std`), so that neither `..` nor a symbolic link
//! leads out. Calls block: run them by [`run_blocking`].

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result};

/// Folder of the uploads that are not whole yet. No bucket's name starts with a dot.
const UPLOADS: &str = ".uploads";

/// The root folder of a store.
#[derive(Clone, Debug)]
pub(super) struct StoreFolder {
    root: Arc<Dir>,
    uploads: Arc<AtomicU64>,
}

/// Reason why the folder cannot serve a request. Its text goes to the client and names no path.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    /// No folder of the bucket's name.
    #[error("The specified bucket does not exist.")]
    NoSuchBucket,
    /// A bucket's folder is there already.
    #[error("The bucket exists already.")]
    BucketExists,
    /// No file for the key.
    #[error("The specified key does not exist.")]
    NoSuchKey,
    /// A key that no file can have.
    #[error("The key cannot be a file's name: {0}.")]
    BadKey(&'static str),
    /// A segment of the key is longer than a file's name may be.
    #[error("A part of the key between two slashes is longer than the file system allows.")]
    KeyTooLong,
    /// The path goes through an object, or to a folder of objects.
    #[error("Another object's key is a folder of this one, or the other way round.")]
    PathConflict,
    /// The operating system refuses, or a link leads out of the bucket.
    #[error("The file may not be opened, or is a link that leads out of its bucket.")]
    Denied,
    /// Anything else of the file system.
    #[error("The folder of the embedded store cannot be used.")]
    Io(#[source] io::Error),
}

/// An object's file and what HTTP says about it.
#[derive(Debug)]
pub(super) struct OpenedObject {
    pub file: std::fs::File,
    pub identity: FileIdentity,
}

/// Facts that tell two contents of a key apart, without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    pub size: u64,
    inode: u64,
    seconds: i64,
    nanos: i64,
}

impl StoreFolder {
    /// Opens `root`, making it where it is missing. Fails where it cannot be made, opened or read; the message names
    /// it.
    pub fn open(root: &Path) -> io::Result<Self> {
        let problem = |what: &str, error: io::Error| {
            let text = format!("the folder {} of the embedded object store cannot be {what}: {error}", root.display());
            io::Error::new(error.kind(), text)
        };
        std::fs::create_dir_all(root).map_err(|error| problem("made", error))?;
        let root_dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| problem("opened", error))?;
        // A folder that cannot be read is reported at the start, not with the first listing.
        root_dir.entries().map_err(|error| problem("read", error))?;
        Ok(Self { root: Arc::new(root_dir), uploads: Arc::default() })
    }

    /// Opens the folder of a bucket; `name` must have been checked to be a bucket's.
    pub fn bucket(&self, name: &str) -> Result<Dir, FolderError> {
        self.root.open_dir(name).map_err(|error| match FolderError::from(error) {
            FolderError::NoSuchKey | FolderError::PathConflict => FolderError::NoSuchBucket,
            other => other,
        })
    }

    /// Returns the buckets: name and time of the last change.
    pub fn buckets(&self) -> Result<Vec<(String, SystemTime)>, FolderError> {
        let mut found = Vec::new();
        for entry in self.root.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if s3s::path::check_bucket_name(&name) && entry.file_type()?.is_dir() {
                found.push((name, entry.metadata()?.modified()?.into_std()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Makes a bucket; fails where there is one of the name.
    pub fn create_bucket(&self, name: &str) -> Result<(), FolderError> {
        self.root.create_dir(name).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FolderError::BucketExists,
            _ => error.into(),
        })
    }

    /// Opens an object for reading; fails where the bucket or a file for the key is missing.
    pub fn object(&self, bucket: &str, key: &str) -> Result<OpenedObject, FolderError> {
        let bucket = self.bucket(bucket)?;
        let path = file_path(key)?;
        // Looked at before it is opened: opening a pipe would wait for its writer.
        if !bucket.metadata(&path).map_err(read_error)?.is_file() {
            return Err(FolderError::NoSuchKey);
        }
        let file = bucket.open(&path).map_err(read_error)?.into_std();
        let identity = FileIdentity::from_metadata(&file.metadata()?);
        Ok(OpenedObject { file, identity })
    }

    /// Writes an object: into a file apart, which takes the key's place once `fill` has written all of it. Where
    /// anything fails, the key keeps what it had.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        fill: impl FnOnce(&mut std::fs::File) -> Result<(), S3Error>,
    ) -> S3Result<FileIdentity> {
        let bucket = self.bucket(bucket)?;
        let path = file_path(key)?;
        let upload = PendingUpload::new(self)?;
        let mut file = upload.file()?;
        fill(&mut file)?;
        // On the disk before it has the key's name, so that a crash leaves no object that is cut short.
        file.flush().and_then(|()| file.sync_all()).map_err(FolderError::Io)?;
        let identity = FileIdentity::from_metadata(&file.metadata().map_err(FolderError::Io)?);
        upload.move_into_place(&bucket, &path)?;
        Ok(identity)
    }

    /// Removes an object, and the folders that it leaves empty. A missing one is no fault.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), FolderError> {
        let bucket = self.bucket(bucket)?;
        let path = file_path(key)?;
        // A link itself is removed, not the file that it leads to.
        match bucket.symlink_metadata(&path).map_err(read_error) {
            Ok(found) if !found.is_dir() => bucket.remove_file(&path)?,
            Ok(_) | Err(FolderError::NoSuchKey) => return Ok(()),
            Err(fault) => return Err(fault),
        }
        let parents = path.ancestors().skip(1).take_while(|parent| !parent.as_os_str().is_empty());
        for parent in parents {
            // The first that holds something else ends it.
            if bucket.remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// An upload that is not yet an object; its file goes away with it unless it was placed.
struct PendingUpload<'a> {
    folder: &'a StoreFolder,
    name: String,
}

impl<'a> PendingUpload<'a> {
    fn new(folder: &'a StoreFolder) -> Result<Self, FolderError> {
        folder.root.create_dir_with(UPLOADS, DirBuilder::new().recursive(true))?;
        // Uploads at the same time, in this process or another one, have names of their own.
        let number = folder.uploads.fetch_add(1, Ordering::Relaxed);
        Ok(Self { folder, name: format!("{UPLOADS}/{}-{number}", std::process::id()) })
    }

    fn file(&self) -> Result<std::fs::File, FolderError> {
        Ok(self.folder.root.create(&self.name)?.into_std())
    }

    fn move_into_place(&self, bucket: &Dir, path: &Path) -> Result<(), FolderError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            bucket.create_dir_all(parent).map_err(write_error)?;
        }
        self.folder.root.rename(&self.name, bucket, path).map_err(write_error)
    }
}

impl Drop for PendingUpload<'_> {
    fn drop(&mut self) {
        // Placed, it is not there any more.
        let _ = self.folder.root.remove_file(&self.name);
    }
}

impl FileIdentity {
    pub(super) fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        Self { size: metadata.len(), inode: metadata.ino(), seconds: metadata.mtime(), nanos: metadata.mtime_nsec() }
    }

    /// Returns the strong entity tag (RFC 9110 §8.8.3), without its quotes: size, time and inode. Another content at
    /// the same key has another inode (it was renamed into place) or another time.
    pub fn entity_tag(&self) -> String {
        let mut tag = String::with_capacity(48);
        write!(tag, "{:x}-{:x}{:08x}-{:x}", self.size, self.seconds, self.nanos, self.inode)
            .expect("a String takes all text");
        tag
    }

    /// Returns the time of the last change in the whole seconds of HTTP; a time before 1970 is 1970.
    pub fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(self.seconds).unwrap_or(0))
    }
}

/// Returns the file of a key, inside its bucket's folder. Fails for `.` and `..` segments, NUL, and segments of more
/// than 255 bytes.
///
/// Every key has its own file: a segment is its file's name, except that an empty segment (`a//b`, `a/`) is named `%`
/// and a segment of n `%` is named by n + 1 of them.
pub(super) fn file_path(key: &str) -> Result<PathBuf, FolderError> {
    let mut path = PathBuf::new();
    for segment in key.split('/') {
        match segment {
            "." | ".." => return Err(FolderError::BadKey("`.` and `..` are no segments")),
            _ if segment.contains('\0') => return Err(FolderError::BadKey("it holds a NUL")),
            // NAME_MAX of Linux's file systems.
            _ if segment.len() > 255 => return Err(FolderError::KeyTooLong),
            _ if segment.bytes().all(|byte| byte == b'%') => path.push(format!("{segment}%")),
            _ => path.push(segment),
        }
    }
    Ok(path)
}

/// Returns the segment of a key that a file's name stands for: [`file_path`] read backwards.
pub(super) fn segment(name: &str) -> &str {
    if name.bytes().all(|byte| byte == b'%') { name.strip_suffix('%').unwrap_or(name) } else { name }
}

/// Runs `work` on a thread that may block; fails where `work` fails or panics.
pub(super) async fn run_blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> S3Result<T>
where
    T: Send + 'static,
    E: Into<S3Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(S3Error::internal_error)?.map_err(Into::into)
}

/// Converts an error on the path to an object that is read: whatever is in the path, there is no such object.
fn read_error(error: io::Error) -> FolderError {
    match FolderError::from(error) {
        FolderError::PathConflict | FolderError::KeyTooLong => FolderError::NoSuchKey,
        other => other,
    }
}

/// Converts an error on the path to an object that is written: a file where a folder is needed, or the other way round.
fn write_error(error: io::Error) -> FolderError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => FolderError::PathConflict,
        _ => error.into(),
    }
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSuchKey,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                Self::PathConflict
            }
            io::ErrorKind::InvalidFilename => Self::KeyTooLong,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Io(error),
        }
    }
}

impl From<FolderError> for S3Error {
    fn from(fault: FolderError) -> Self {
        let code = match &fault {
            FolderError::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            FolderError::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            FolderError::NoSuchKey => S3ErrorCode::NoSuchKey,
            FolderError::BadKey(_) | FolderError::PathConflict => S3ErrorCode::InvalidArgument,
            FolderError::KeyTooLong => S3ErrorCode::KeyTooLongError,
            FolderError::Denied => S3ErrorCode::AccessDenied,
            FolderError::Io(_) => S3ErrorCode::InternalError,
        };
        let mut error = Self::with_message(code, fault.to_string());
        error.set_source(Box::new(fault));
        error
    }
}
