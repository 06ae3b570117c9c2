//! One writer a path in this process, however many channels name it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use linkspan_model::config::FileFormat;

use super::append::Appender;

type Writers = HashMap<PathBuf, (FileFormat, Weak<Mutex<Appender>>)>;

static WRITERS: LazyLock<Mutex<Writers>> = LazyLock::new(Mutex::default);

/// The writer of a path. The error is the format in which another channel writes it.
pub(super) fn writer(path: &Path, format: FileFormat) -> Result<Arc<Mutex<Appender>>, FileFormat> {
    let key = true_path(path);
    let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
    writers.retain(|_, (_, writer)| writer.strong_count() > 0);
    if let Some((there, writer)) = writers.get(&key)
        && let Some(writer) = writer.upgrade()
    {
        return if *there == format {
            Ok(writer)
        } else {
            Err(*there)
        };
    }
    let writer = Arc::new(Mutex::new(Appender::new(path.to_owned())));
    writers.insert(key, (format, Arc::downgrade(&writer)));
    Ok(writer)
}

/// The path without links and `..`, as far as it is there.
fn true_path(path: &Path) -> PathBuf {
    let mut rest: Vec<OsString> = Vec::new();
    let mut there = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    loop {
        if let Ok(found) = there.canonicalize() {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match there.file_name() {
            Some(name) => rest.push(name.to_owned()),
            None => return path.to_owned(),
        }
        there.pop();
    }
}
