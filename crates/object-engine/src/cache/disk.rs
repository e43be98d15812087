//! Folder of the disk cache: used by one process at a time, and allocated when it is opened, so that a file system that
//! others fill later cannot fail a write. Never larger than configured.

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
/// Part of the folder for records of objects: one of this many.
const RECORDS_SHARE: u64 = 32;
/// Most bytes for records: enough for every object whose slices fit beside them.
const MAX_RECORDS_BYTES: u64 = 1 << 30;
/// Largest record for which blocks and buffers are sized, in bytes. Records are seldom larger.
const MAX_RECORD_BYTES: u64 = 16 << 10;
/// Number of blocks. The disk cache drops a whole block at once: many, so that little is lost, but not too small to be
/// written fast.
const BLOCKS: u64 = 64;
const MAX_BLOCK_BYTES: u64 = 64 << 20;

/// An open folder of the disk cache. The lock ends with the process, however the process ends.
pub struct CacheDirectory {
    path: PathBuf,
    size: u64,
    _lock: File,
}

impl CacheDirectory {
    /// Creates the folder where it does not exist, and locks it. Fails where another process uses it (`WouldBlock`),
    /// where there is no room for its size (`StorageFull`), or with the system's error.
    pub fn open(disk: &DiskCacheSettings) -> io::Result<Self> {
        // The folder holds objects in the clear: nobody but our user may read it.
        DirBuilder::new().recursive(true).mode(0o700).create(&disk.path)?;
        let lock = File::create(disk.path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another process uses the folder"),
            TryLockError::Error(error) => error,
        })?;
        let folder = Self { path: disk.path.clone(), size: disk.size, _lock: lock };
        // Files of an earlier run are overwritten, so their space counts as free.
        let room = fs4::available_space(&folder.path)?.saturating_add(folder.used_bytes()?);
        if room < folder.size {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file system has no room for Cache.Disk.Size"));
        }
        Ok(folder)
    }

    /// Returns the number of bytes that its files take now.
    fn used_bytes(&self) -> io::Result<u64> {
        let mut taken = 0;
        for part in [SLICES, RECORDS] {
            match fs::read_dir(self.path.join(part)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => {
                    for entry in found? {
                        // `st_blocks` counts in 512 bytes, whatever the file system's block size is (stat(2)).
                        taken += entry?.metadata()?.blocks() * 512;
                    }
                }
            }
        }
        Ok(taken)
    }

    /// Returns the path of the list of purges.
    pub fn purge_file(&self) -> PathBuf {
        self.path.join("purges.json")
    }

    /// Creates the engine for slices of at most `slice` bytes.
    pub fn slices<K: StorageKey, V: StorageValue>(&self, slice: u64) -> foyer::Result<DiskEngine<K, V>> {
        DiskEngine::new(self.path.join(SLICES), self.size - self.records_size(), slice)
    }

    /// Creates the engine for records of objects.
    pub fn records<K: StorageKey, V: StorageValue>(&self) -> foyer::Result<DiskEngine<K, V>> {
        DiskEngine::new(self.path.join(RECORDS), self.records_size(), MAX_RECORD_BYTES)
    }

    fn records_size(&self) -> u64 {
        (self.size / RECORDS_SHARE).min(MAX_RECORDS_BYTES)
    }
}

/// A part of the folder, ready to be given to foyer.
pub struct DiskEngine<K: StorageKey, V: StorageValue> {
    /// Configuration for foyer.
    pub config: BlockEngineConfig<K, V, HybridCacheProperties>,
    /// Path of its files.
    pub path: PathBuf,
}

impl<K: StorageKey, V: StorageValue> DiskEngine<K, V> {
    fn new(path: PathBuf, size: u64, entry: u64) -> foyer::Result<Self> {
        // Only on 32-bit systems, where more cannot be addressed.
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let device = FsDeviceBuilder::new(&path).with_capacity(size).build()?;
        // An entry is followed by its key and an index; a block must have room for several.
        let block = (size as u64 / BLOCKS).min(MAX_BLOCK_BYTES).max(4 * entry + (64 << 10));
        let config = BlockEngineConfig::new(device)
            .with_block_size(usize::try_from(block).unwrap_or(usize::MAX))
            .with_buffer_pool_size(usize::try_from(16 * entry).unwrap_or(usize::MAX).clamp(1 << 20, 32 << 20))
            .with_submit_queue_size_threshold(
                usize::try_from(64 * entry).unwrap_or(usize::MAX).clamp(1 << 20, 64 << 20),
            )
            .with_indexer_shards(16)
            // Without the log an entry that was removed would be found again after a restart.
            .with_tombstone_log(true);
        Ok(Self { config, path })
    }
}

/// Allocates every file that `device` uses, and removes files that an earlier, larger device left.
pub fn preallocate(path: &Path, device: &dyn Device) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        // foyer numbers its files at the end of their names; other files are not ours to touch.
        let number =
            name.to_str().and_then(|name| name.rsplit('-').next()).and_then(|digits| digits.parse::<usize>().ok());
        let Some(number) = number else { continue };
        if number >= device.partitions() {
            fs::remove_file(entry.path())?;
            continue;
        }
        let file = File::options().write(true).open(entry.path())?;
        match file.allocate(file.metadata()?.len()) {
            // Not every file system can allocate ahead; then space is taken as it is written.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
