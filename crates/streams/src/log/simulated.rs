//! A disk that keeps, when its power goes, only what was synced, and of the rest anything: nothing, a part, torn, garbage.
//!
//! Names and contents are kept apart, as POSIX has it: a synced file whose folder was not synced may have no name. A sync that is told
//! to fail leaves the content to be read as if it were written, and forgets that it is not: what Linux does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use super::disk::{Disk, DiskFile};
use super::pool::held;

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    /// Folders and files as they are seen.
    names: BTreeMap<PathBuf, Node>,
    /// As they are on the disk.
    synced: BTreeMap<PathBuf, Node>,
    /// Changes of names since.
    pending: Vec<Change>,
    /// Calls that change something, until now.
    calls: usize,
    /// The power goes at this call.
    last: Option<usize>,
    /// So many syncs work, and so many fail after them.
    good_syncs: usize,
    fail_syncs: usize,
    /// Bytes that all files may hold together.
    space: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone)]
enum Change {
    Set(PathBuf, Node),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Writes and cuts since the last sync.
    pending: Vec<Edit>,
}

#[derive(Clone)]
enum Edit {
    Write(usize, Vec<u8>),
    Cut(usize),
}

struct SimulatedFile {
    disk: SimulatedDisk,
    number: usize,
}

impl SimulatedDisk {
    /// A disk with one empty folder.
    pub(crate) fn with(folder: &str) -> Self {
        let disk = Self::default();
        let mut state = held(&disk.state);
        state.names.insert(folder.into(), Node::Folder);
        state.synced.insert(folder.into(), Node::Folder);
        drop(state);
        disk
    }

    /// The power goes at so many calls from now.
    pub(crate) fn power_goes_after(&self, calls: usize) {
        let mut state = held(&self.state);
        state.last = Some(state.calls + calls);
    }

    /// So many calls changed something.
    pub(crate) fn calls(&self) -> usize {
        held(&self.state).calls
    }

    /// The next syncs fail.
    pub(crate) fn fail_syncs(&self, count: usize) {
        self.fail_syncs_after(0, count);
    }

    /// So many syncs work, and those after them fail.
    pub(crate) fn fail_syncs_after(&self, good: usize, count: usize) {
        let mut state = held(&self.state);
        (state.good_syncs, state.fail_syncs) = (good, count);
    }

    /// How many bytes there is room for beyond those that are there.
    pub(crate) fn leave_room(&self, bytes: Option<usize>) {
        let mut state = held(&self.state);
        let used = state.used();
        state.space = bytes.map(|bytes| used + bytes);
    }

    /// Changes bytes where they lie.
    pub(crate) fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = held(&self.state);
        let Some(Node::File(number)) = state.names.get(Path::new(path)).copied() else {
            panic!("no file {path}");
        };
        let file = &mut state.files[number];
        change(&mut file.seen);
        file.durable = file.seen.clone();
        file.pending.clear();
    }

    /// The names of all files.
    pub(crate) fn paths(&self) -> Vec<String> {
        let state = held(&self.state);
        let paths = state.names.keys();
        paths.map(|path| path.display().to_string()).collect()
    }

    /// A copy of the disk as it is, all of it synced.
    pub(crate) fn copied(&self) -> Self {
        let state = held(&self.state);
        let settled = |file: &Content| Content {
            seen: file.seen.clone(),
            durable: file.seen.clone(),
            pending: Vec::new(),
        };
        let copy = State {
            files: state.files.iter().map(settled).collect(),
            names: state.names.clone(),
            synced: state.names.clone(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// What is found when the power is back.
    pub(crate) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let state = held(&self.state);
        let mut names = state.synced.clone();
        for change in &state.pending {
            if rng.bool() {
                change.apply(&mut names);
            }
        }
        let files = state.files.iter().map(|file| file.survived(rng)).collect();
        let after = State {
            files,
            synced: names.clone(),
            names,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(after)),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = held(&self.state);
        if state.last == Some(state.calls) {
            return Err(io::Error::other("the power is gone"));
        }
        state.calls += 1;
        change(&mut state)
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        look(&held(&self.state))
    }

    fn file(&self, number: usize) -> Arc<dyn DiskFile> {
        let disk = self.clone();
        Arc::new(SimulatedFile { disk, number })
    }
}

impl Disk for SimulatedDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.name(Change::Set(path.to_owned(), Node::Folder));
            Ok(())
        })
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.look(|state| {
            let within = state
                .names
                .keys()
                .filter(|path| path.parent() == Some(folder));
            let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into());
            Ok(within.filter_map(name).collect())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.change(|state| match state.names.get(path).copied() {
            Some(Node::File(number)) => {
                state.files[number].edit(Edit::Cut(0));
                Ok(number)
            }
            _ => {
                state.files.push(Content::default());
                let number = state.files.len() - 1;
                state.name(Change::Set(path.to_owned(), Node::File(number)));
                Ok(number)
            }
        })?;
        Ok(self.file(number))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.look(|state| match state.names.get(path) {
            Some(Node::File(number)) => Ok(self.file(*number)),
            _ => Err(ErrorKind::NotFound.into()),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            state.name(Change::Move(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            if !state.names.contains_key(path) {
                return Err(ErrorKind::NotFound.into());
            }
            state.name(Change::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.change(|state| {
            state.sync()?;
            let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pending)
                .into_iter()
                .partition(|change| change.folder() == Some(folder));
            now.iter()
                .for_each(|change| change.apply(&mut state.synced));
            state.pending = later;
            Ok(())
        })
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        self.disk
            .look(|state| Ok(state.files[self.number].seen.len() as u64))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.disk.look(|state| {
            let seen = &state.files[self.number].seen;
            let from = &seen[usize::try_from(at).unwrap().min(seen.len())..];
            let length = from.len().min(into.len());
            into[..length].copy_from_slice(&from[..length]);
            Ok(length)
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let mut state = held(&self.disk.state);
        if state.last == Some(state.calls) {
            // The call that the power goes in: it was begun.
            state.files[self.number]
                .pending
                .push(Edit::Write(at, bytes.to_vec()));
            return Err(io::Error::other("the power is gone"));
        }
        state.calls += 1;
        let length = state.files[self.number].seen.len();
        let more = (at + bytes.len()).saturating_sub(length);
        let room = state
            .space
            .map_or(usize::MAX, |space| space.saturating_sub(state.used()));
        let fits = bytes.len() - more.saturating_sub(room).min(bytes.len());
        state.files[self.number].edit(Edit::Write(at, bytes[..fits].to_vec()));
        if fits < bytes.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.disk.change(|state| {
            state.files[self.number].edit(Edit::Cut(length));
            Ok(())
        })
    }

    fn reserve(&self, _from: u64, _to: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(|state| {
            let failed = state.sync();
            let file = &mut state.files[self.number];
            if failed.is_ok() {
                file.durable = file.seen.clone();
            }
            file.pending.clear();
            failed
        })
    }
}

impl State {
    fn name(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn used(&self) -> usize {
        self.files.iter().map(|file| file.seen.len()).sum()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.good_syncs > 0 {
            self.good_syncs -= 1;
        } else if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            return Err(io::Error::other("the disk gave up"));
        }
        Ok(())
    }
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        let (Self::Set(path, _) | Self::Move(path, _) | Self::Remove(path)) = self;
        path.parent()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Set(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Move(from, to) => {
                let moved = std::mem::take(names).into_iter();
                names.extend(moved.map(|(name, node)| match name.strip_prefix(from) {
                    Ok(rest) if rest.as_os_str().is_empty() => (to.clone(), node),
                    Ok(rest) => (to.join(rest), node),
                    Err(_) => (name, node),
                }));
            }
        }
    }
}

impl Content {
    fn edit(&mut self, edit: Edit) {
        edit.apply(&mut self.seen);
        self.pending.push(edit);
    }

    fn survived(&self, rng: &mut Rng) -> Self {
        let mut left = self.durable.clone();
        let kind = rng.u8(..4);
        for edit in &self.pending {
            match (kind, edit) {
                // Nothing of it.
                (0, _) => break,
                // Some of the writes, and the last of them torn.
                (1, Edit::Write(at, bytes)) => {
                    let length = rng.usize(..=bytes.len());
                    Edit::Write(*at, bytes[..length].to_vec()).apply(&mut left);
                    if rng.bool() {
                        break;
                    }
                }
                // Sectors in any order; what is missing reads as zeros or as garbage.
                (2, Edit::Write(at, bytes)) => {
                    let mut bytes = bytes.clone();
                    for sector in bytes.chunks_mut(64) {
                        match rng.u8(..4) {
                            0 => sector.fill(0),
                            1 => rng.fill(sector),
                            _ => {}
                        }
                    }
                    Edit::Write(*at, bytes).apply(&mut left);
                }
                // All of it.
                (_, edit) => edit.apply(&mut left),
            }
        }
        Self {
            seen: left.clone(),
            durable: left,
            pending: Vec::new(),
        }
    }
}

impl Edit {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Cut(length) => content.truncate(*length),
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(bytes);
            }
        }
    }
}
