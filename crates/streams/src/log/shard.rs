//! A log of segments.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;

use super::disk::Disk;
use super::frame;
use super::index::{Index, Sealed};
use super::logs::Settings;
use super::opening::{self, Found};
use super::pool::{Line, Work, held};
use super::reading::State;
use super::segment::{failed, index_name, name};
use super::writer::{Batch, Failed, Writer};
use super::{Entry, Log, LogError};

/// An append is shorter than this, and so is a segment: positions have 32 bits.
pub(super) const LONGEST: u64 = 1024 * 1024 * 1024;

/// A log in a folder of its own: segment files, of which the newest is written to. Comes from [`super::Logs`].
pub struct SegmentLog {
    core: Arc<Core>,
    line: Arc<Line>,
}

/// What is shared by those who append, read and write.
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    /// Bytes that are written at once, unless one append is longer.
    group: usize,
    /// What can be read. Locked for moments only, and always the last one to be locked.
    pub(super) state: Mutex<State>,
    writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    trimming: Mutex<()>,
    refuses: AtomicBool,
    next: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Batch, Answer)>,
    in_line: bool,
}

type Answer = oneshot::Sender<Result<u64, LogError>>;

#[async_trait]
impl Log for SegmentLog {
    async fn append(&self, entries: Vec<Bytes>, now: Timestamp) -> Result<u64, LogError> {
        if self.core.refuses() {
            return Err(LogError::Closed);
        }
        if entries.is_empty() {
            return Ok(self.bounds().end);
        }
        let batch = batch(&entries, now)?;
        drop(entries);
        let (answer, answered) = oneshot::channel();
        self.enqueue(batch, answer);
        // An answer that was dropped is that of a log that closed meanwhile.
        answered.await.unwrap_or(Err(LogError::Closed))
    }

    async fn read(&self, from: u64, entries: usize, bytes: usize) -> Result<Vec<Entry>, LogError> {
        let bounds = self.bounds();
        if from < bounds.start {
            let first = bounds.start;
            return Err(LogError::Trimmed { first });
        }
        if from >= bounds.end {
            return Ok(Vec::new());
        }
        self.apart(move |core| core.read(from, entries.max(1), bytes))
            .await
    }

    fn bounds(&self) -> Range<u64> {
        held(&self.core.state).bounds()
    }

    fn follow(&self) -> watch::Receiver<u64> {
        self.core.next.subscribe()
    }

    async fn since(&self, time: Timestamp) -> Result<u64, LogError> {
        self.apart(move |core| core.since(time.as_microsecond()))
            .await
    }

    async fn trim(
        &self,
        age: Duration,
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<u64, LogError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let oldest = now.as_microsecond().saturating_sub(age);
        self.apart(move |core| core.trim(oldest, size)).await
    }
}

impl SegmentLog {
    /// Opens the log in a folder.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        settings: &Settings,
        line: Arc<Line>,
    ) -> Result<Self, LogError> {
        let found = opening::open(&*disk, folder)?;
        let core = Arc::new(Core::new(disk, folder, settings, found));
        Ok(Self { core, line })
    }

    /// Whether it takes no more: closed, deleted, or a sync failed.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.core.refuses()
    }

    /// Bytes on the disk, without side files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let state = held(&self.core.state);
        let sealed = state.sealed.iter().map(|sealed| sealed.bytes);
        sealed.sum::<u64>() + state.durable.bytes
    }

    /// Takes no more, and returns when nothing writes any more. Blocks for as long as a write lasts.
    pub(super) fn close(&self) {
        self.core.close();
        drop(held(&self.core.writer));
    }

    fn enqueue(&self, batch: Batch, answer: Answer) {
        let mut queue = held(&self.core.queue);
        queue.waiting.push_back((batch, answer));
        let first = !mem::replace(&mut queue.in_line, true);
        drop(queue);
        if first && !self.line.join(self.core.clone()) {
            self.core.close();
        }
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let core = self.core.clone();
        let done = spawn_blocking(move || work(&core)).await;
        done.unwrap_or(Err(LogError::Closed))
    }
}

impl Work for Core {
    fn work(&self) -> bool {
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut queue = held(&self.queue);
        while let Some((batch, answer)) = queue.waiting.pop_front() {
            bytes += batch.frames.len();
            batches.push(batch);
            answers.push(answer);
            let next = queue
                .waiting
                .front()
                .map_or(0, |(next, _)| next.frames.len());
            if bytes + next > self.group {
                break;
            }
        }
        drop(queue);
        if !batches.is_empty() {
            match self.write(&mut batches) {
                Ok(offsets) => {
                    for (answer, offset) in answers.into_iter().zip(offsets) {
                        // Who no longer waits undoes nothing.
                        let _ = answer.send(Ok(offset));
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let _ = answer.send(Err(again(&error)));
                    }
                }
            }
        }
        let mut queue = held(&self.queue);
        queue.in_line = !queue.waiting.is_empty();
        queue.in_line
    }

    fn give_up(&self) {
        self.close();
    }
}

impl Core {
    fn new(disk: Arc<dyn Disk>, folder: &Path, settings: &Settings, found: Found) -> Self {
        let writer = Writer::new(
            disk.clone(),
            folder.to_owned(),
            settings.clone(),
            found.segment.clone(),
            found.mark,
            &found.walked,
        );
        writer.leave_mark();
        let state = State {
            sealed: found.sealed,
            segment: found.segment,
            durable: found.walked.whole,
            index: found.walked.index,
        };
        Self {
            disk,
            folder: folder.to_owned(),
            group: settings.group_bytes,
            next: watch::Sender::new(state.durable.end),
            state: Mutex::new(state),
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            trimming: Mutex::default(),
            refuses: AtomicBool::new(false),
        }
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.refuses.store(true, Ordering::Release);
        let mut queue = held(&self.queue);
        queue.waiting.clear();
        // Whoever comes after this stands in line itself and is told.
        queue.in_line = false;
    }

    fn write(&self, batches: &mut [Batch]) -> Result<Vec<u64>, LogError> {
        let mut writer = held(&self.writer);
        if self.refuses() {
            return Err(LogError::Closed);
        }
        let bytes: usize = batches.iter().map(|batch| batch.frames.len()).sum();
        let now = batches.iter().map(|batch| batch.now).max();
        if writer.is_over(bytes as u64, now.unwrap_or(i64::MIN)) {
            self.roll(&mut writer)?;
        }
        let written = writer.write(batches).map_err(|failed| self.judge(failed))?;
        let durable = writer.durable();
        let mut state = held(&self.state);
        state.durable = durable;
        for point in written.points {
            state.index.note(point);
        }
        drop(state);
        self.next.send_replace(durable.end);
        Ok(written.offsets)
    }

    fn roll(&self, writer: &mut Writer) -> Result<(), LogError> {
        let index = held(&self.state).index.clone();
        let sealed = writer.roll(&index).map_err(|failed| self.judge(failed))?;
        let mut state = held(&self.state);
        state.sealed.push_back(sealed);
        state.segment = writer.segment().clone();
        state.durable = writer.durable();
        state.index = Index::default();
        Ok(())
    }

    fn judge(&self, failed: Failed) -> LogError {
        match failed {
            Failed::Passing(error) => error,
            Failed::Lasting(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a log takes no more until it is opened anew"
                );
                self.close();
                error
            }
        }
    }

    fn trim(&self, oldest: i64, size: Option<u64>) -> Result<u64, LogError> {
        let doing = "let go of a segment of a log";
        let trimming = held(&self.trimming);
        let mut writer = held(&self.writer);
        if self.refuses() {
            return Err(LogError::Closed);
        }
        let durable = writer.durable();
        if durable.end > durable.base && durable.last < oldest {
            self.roll(&mut writer)?;
        }
        drop(writer);
        let mut freed = 0;
        loop {
            let mut state = held(&self.state);
            let newer = state.size_after_first();
            let goes =
                |first: &Sealed| first.last < oldest || size.is_some_and(|size| newer >= size);
            let Some(first) = state.sealed.front().copied().filter(goes) else {
                break;
            };
            state.sealed.pop_front();
            drop(state);
            if let Err(error) = self.disk.remove(&self.folder.join(name(first.base))) {
                held(&self.state).sealed.push_front(first);
                return Err(failed(doing, error));
            }
            // Without its segment a side file means nothing; the next start removes it.
            let _ = self.disk.remove(&self.folder.join(index_name(first.base)));
            // One after the other: a gap between the segments that are left would be damage.
            let synced = self.disk.sync_folder(&self.folder);
            synced.map_err(|error| self.judge(Failed::Lasting(failed(doing, error))))?;
            freed += first.bytes;
        }
        drop(trimming);
        Ok(freed)
    }
}

/// Frames of an append, checksums and all, made where the caller is and not where everybody waits.
fn batch(entries: &[Bytes], now: Timestamp) -> Result<Batch, LogError> {
    let bytes: usize = entries
        .iter()
        .map(|entry| frame::HEADER + entry.len())
        .sum();
    if bytes as u64 > LONGEST {
        let doing = "take an append of more than 1 GiB";
        let error = io::ErrorKind::InvalidInput.into();
        return Err(LogError::Io { doing, error });
    }
    let mut frames = Vec::with_capacity(bytes);
    for (number, entry) in entries.iter().enumerate() {
        let left = u32::try_from(entries.len() - 1 - number).unwrap_or(u32::MAX);
        frame::push(&mut frames, entry, left);
    }
    Ok(Batch {
        frames,
        entries: entries.len() as u64,
        now: now.as_microsecond(),
    })
}

/// The same error for another one who waited for the same write.
fn again(error: &LogError) -> LogError {
    match error {
        LogError::Trimmed { first } => LogError::Trimmed { first: *first },
        LogError::Full => LogError::Full,
        LogError::Corrupt { file, at } => LogError::Corrupt {
            file: file.clone(),
            at: *at,
        },
        LogError::Io { doing, error } => LogError::Io {
            doing,
            error: error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
        },
        LogError::Closed => LogError::Closed,
    }
}
