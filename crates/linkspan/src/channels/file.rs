//! Results as files on the gateway's machine: lines of JSON or rows of CSV that are added to one file, or one file a result.
//!
//! What is acknowledged is on disk. Half a line, which a crash or a full disk left, is cut off by the attempt that adds the whole one;
//! what is not known to be half of ours is kept, and ended where its ending is missing. A line may come twice, as every delivery may;
//! where it holds the invocation's id, and a further attempt finds it among the last lines, it is not added again.

mod append;
mod csv;
mod lines;
mod per_result;
mod writers;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use linkspan_model::config::deliver::{self, Deliver};
use linkspan_model::config::{FileFormat, Jq};

use self::append::Appender;
use super::{Channel, Parcel, Verdict};

/// How many results one write may take: they share one fsync.
const BATCH: usize = 500;

/// The file channel of one integration.
#[derive(Debug)]
pub(super) struct File {
    name: String,
    path: PathBuf,
    format: FileFormat,
    /// The filter that makes the content. Without one, the result document's own columns are known.
    map: Option<Jq>,
    writer: Arc<Mutex<Appender>>,
}

impl File {
    /// Opens the channel; the file itself, and its folder, are made with the first result. Paths are relative to the configuration's
    /// folder.
    ///
    /// # Errors
    ///
    /// A sentence for the operator: the path cannot be what the format needs, or another channel writes it in another format.
    pub(super) fn open(
        item: &Deliver,
        file: &deliver::File,
        folder: &Path,
    ) -> Result<Self, String> {
        let path = folder.join(&file.file);
        let shown = file.file.display();
        let Some(name) = path.file_name() else {
            return Err(format!("{shown} names no file"));
        };
        let per_result = file.format == FileFormat::FilePerResult;
        if path.is_dir() && !per_result {
            return Err(format!(
                "{shown} is a folder; format = \"file-per-result\" writes into one"
            ));
        }
        if path.exists() && !path.is_dir() && per_result {
            return Err(format!(
                "{shown} is not a folder, and file-per-result needs one"
            ));
        }
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            writer: writers::writer(&path, file.format).map_err(|other| {
                format!("{shown} is written as {} by another channel", other.name())
            })?,
            path,
            format: file.format,
            map: item.common.map.clone(),
        })
    }
}

#[async_trait]
impl Channel for File {
    fn receiver(&self) -> String {
        self.name.clone()
    }

    fn batch(&self) -> usize {
        BATCH
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let work = Work {
            name: self.name.clone(),
            path: self.path.clone(),
            format: self.format,
            map: self.map.clone(),
            writer: self.writer.clone(),
            parcels: parcels.to_vec(),
        };
        // Once begun it is done to its end, even where nobody waits any more: half a line is never left on purpose.
        let count = parcels.len();
        match tokio::task::spawn_blocking(move || work.run()).await {
            Ok(verdicts) => verdicts,
            Err(_) => vec![Verdict::retry(None, "the writing of the file broke off"); count],
        }
    }
}

/// One call of [`Channel::send`], on a thread that may block.
struct Work {
    name: String,
    path: PathBuf,
    format: FileFormat,
    map: Option<Jq>,
    writer: Arc<Mutex<Appender>>,
    parcels: Vec<Parcel>,
}

impl Work {
    fn run(self) -> Vec<Verdict> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let verdicts = match self.format {
            FileFormat::JsonLines => lines::add(&mut writer, &self.name, &self.parcels),
            FileFormat::Csv => {
                let map = self.map.as_ref().map(Jq::as_str);
                csv::add(&mut writer, &self.name, &self.parcels, map)
            }
            FileFormat::FilePerResult => per_result::write(&self.path, &self.name, &self.parcels),
        };
        verdicts.unwrap_or_else(|error| {
            let verdict = Verdict::retry(None, reason(&self.name, &error));
            vec![verdict; self.parcels.len()]
        })
    }
}

/// What the disk says, in a sentence.
fn reason(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => format!("the disk of {name} is full"),
        io::ErrorKind::QuotaExceeded => format!("the disk quota of {name} is used up"),
        io::ErrorKind::WouldBlock => format!("another program holds the lock of {name}"),
        _ => format!("{name} cannot be written: {error}"),
    }
}

#[cfg(test)]
mod tests;
