//! The cache's folder: one process at a time, taken whole when it is opened so that a disk that others fill later cannot
//! fail a write, and never larger than it was told.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use foyer::{
    BlockEngineConfig, Device, DeviceBuilder, FsDeviceBuilder, HybridCacheProperties, StorageKey, StorageValue,
};
use fs4::fs_std::FileExt;

use super::settings::DiskCacheSettings;

const SLICES: &str = "slices";
const RECORDS: &str = "objects";
/// What records of objects take of the folder: one part of so many.
const RECORDS_SHARE: u64 = 32;
/// Records of so many bytes are enough for every object that fits besides.
const MAX_RECORDS_BYTES: u64 = 1 << 30;
/// A record is seldom larger; what does not fit is not kept on disk.
const MAX_RECORD_BYTES: u64 = 16 << 10;
/// Blocks are what the disk cache drops at once: many, so that little is lost, and not too small to be written fast.
const BLOCKS: u64 = 64;
const MAX_BLOCK_BYTES: u64 = 64 << 20;

/// An open folder. Its lock ends with the process, however that ends.
pub struct CacheDirectory {
    path: PathBuf,
    size: u64,
    _lock: File,
}

impl CacheDirectory {
    /// Makes the folder where it is not there, for our user alone, and locks it.
    pub fn open(disk: &DiskCacheSettings) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&disk.path)?;
        let lock = File::create(disk.path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another process uses the folder"),
            TryLockError::Error(error) => error,
        })?;
        let folder = Self { path: disk.path.clone(), size: disk.size, _lock: lock };
        let room = fs4::available_space(&folder.path)?.saturating_add(folder.used_bytes()?);
        if room < folder.size {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file system has no room for Cache.Disk.Size"));
        }
        Ok(folder)
    }

    /// What its files take now.
    fn used_bytes(&self) -> io::Result<u64> {
        let mut taken = 0;
        for part in [SLICES, RECORDS] {
            match fs::read_dir(self.path.join(part)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => {
                    for entry in found? {
                        taken += entry?.metadata()?.blocks() * 512;
                    }
                }
            }
        }
        Ok(taken)
    }

    /// The list of purges.
    pub fn purge_file(&self) -> PathBuf {
        self.path.join("purges.json")
    }

    /// Where slices of at most `slice` bytes are kept.
    pub fn slices<K: StorageKey, V: StorageValue>(&self, slice: u64) -> foyer::Result<DiskEngine<K, V>> {
        DiskEngine::new(self.path.join(SLICES), self.size - self.records_size(), slice)
    }

    /// Where records of objects are kept.
    pub fn records<K: StorageKey, V: StorageValue>(&self) -> foyer::Result<DiskEngine<K, V>> {
        DiskEngine::new(self.path.join(RECORDS), self.records_size(), MAX_RECORD_BYTES)
    }

    fn records_size(&self) -> u64 {
        (self.size / RECORDS_SHARE).min(MAX_RECORDS_BYTES)
    }
}

/// A part of the folder, ready to be given to foyer.
pub struct DiskEngine<K: StorageKey, V: StorageValue> {
    /// What foyer is told.
    pub config: BlockEngineConfig<K, V, HybridCacheProperties>,
    /// Where its files are.
    pub path: PathBuf,
}

impl<K: StorageKey, V: StorageValue> DiskEngine<K, V> {
    fn new(path: PathBuf, size: u64, entry: u64) -> foyer::Result<Self> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let device = FsDeviceBuilder::new(&path).with_capacity(size).build()?;
        // An entry is followed by its key and an index: a block has room for several.
        let block = (size as u64 / BLOCKS).min(MAX_BLOCK_BYTES).max(4 * entry + (64 << 10));
        let config = BlockEngineConfig::new(device)
            .with_block_size(usize::try_from(block).unwrap_or(usize::MAX))
            .with_buffer_pool_size(usize::try_from(16 * entry).unwrap_or(usize::MAX).clamp(1 << 20, 32 << 20))
            .with_submit_queue_size_threshold(
                usize::try_from(64 * entry).unwrap_or(usize::MAX).clamp(1 << 20, 64 << 20),
            )
            .with_indexer_shards(16)
            .with_tombstone_log(true);
        Ok(Self { config, path })
    }
}

/// Takes the space of every file that `device` uses, and removes what an earlier, larger one has left.
pub fn preallocate(path: &Path, device: &dyn Device) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.rsplit('-').next()).and_then(|digits| digits.parse::<usize>().ok());
        let Some(number) = number else { continue };
        if number >= device.partitions() {
            fs::remove_file(entry.path())?;
            continue;
        }
        let file = File::options().write(true).open(entry.path())?;
        match file.allocate(file.metadata()?.len()) {
            // Not every file system can take space ahead; then it is taken as it is written.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
