//! Events in a file of JSON Lines, which is rotated by size.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::settings;
use super::{Event, Sink, Undelivered};

/// The sink; its file is away while it is written.
pub struct File(Option<Rotated>);

/// The file and those before it.
struct Rotated {
    settings: settings::File,
    file: fs::File,
    length: u64,
}

impl File {
    /// Opens the file, to be written on after its last whole line.
    pub fn open(settings: &settings::File) -> io::Result<Self> {
        if let Some(folder) = settings.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = open(&settings.path)?;
        let length = whole_lines(&mut file)?;
        file.set_len(length)?;
        Ok(Self(Some(Rotated { settings: settings.clone(), file, length })))
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

impl Rotated {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.length > 0 && self.length + length > self.settings.size {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // Or the next try would begin in the middle of a line.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.settings.keep).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.settings.path, self.older(1))?;
        self.file = open(&self.settings.path)?;
        self.length = 0;
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut path = self.settings.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// Up to where `file` consists of whole lines.
fn whole_lines(file: &mut fs::File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut buffer = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(end - start).expect("at most the buffer")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(last) = memchr::memrchr(b'\n', part) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[async_trait]
impl Sink for File {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        let lines: Vec<u8> = events.iter().flat_map(Event::line).collect();
        let mut rotated = self.0.take().ok_or_else(|| failed(&io::Error::other("it is lost")))?;
        let written = spawn_blocking(move || {
            let outcome = rotated.write(&lines);
            (rotated, outcome)
        });
        let (rotated, outcome) = written.await.map_err(|error| failed(&error.into()))?;
        self.0 = Some(rotated);
        outcome.map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> Undelivered {
    let cause = format!("the file of events (Events.File) cannot be written: {}", error.kind());
    Undelivered { delivered: 0, for_good: false, cause }
}
