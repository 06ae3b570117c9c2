//! Which streams and shards there are: one small file, written anew at each change.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hash_key::HashKey;
use crate::log::disk::Disk;

/// How long records are kept unless a stream says otherwise.
pub(super) const RETENTION_HOURS: u32 = 24;

/// All streams, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Catalogue {
    pub(super) streams: BTreeMap<String, StreamEntry>,
}

/// A stream, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StreamEntry {
    pub(super) id: Uuid,
    pub(super) created: Timestamp,
    pub(super) retention_hours: u32,
    pub(super) on_demand: bool,
    pub(super) tags: BTreeMap<String, String>,
    /// All shards that may still hold records, by number.
    pub(super) shards: Vec<ShardEntry>,
    /// The number of the next shard.
    pub(super) next: u32,
}

/// A shard, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ShardEntry {
    pub(super) number: u32,
    /// When it was made, in milliseconds: later than each of its parents.
    pub(super) born: u64,
    pub(super) parents: Vec<u32>,
    pub(super) first_key: HashKey,
    pub(super) last_key: HashKey,
    /// The offset at which it was closed, and when.
    pub(super) closed: Option<(u64, Timestamp)>,
}

/// Why a catalogue was not written.
#[derive(Debug)]
pub(super) enum Unsaved {
    /// The old one is there.
    Unchanged(io::Error),
    /// Either may be there at the next start.
    Unsure(io::Error),
}

impl StreamEntry {
    /// A new stream of so many shards.
    pub(super) fn new(shards: u32, on_demand: bool, now: Timestamp) -> Self {
        let mut stream = Self {
            id: Uuid::now_v7(),
            created: now,
            retention_hours: RETENTION_HOURS,
            on_demand,
            tags: BTreeMap::new(),
            shards: Vec::new(),
            next: 0,
        };
        for (first, last) in HashKey::ranges(shards) {
            stream.add(Vec::new(), first, last, now);
        }
        stream
    }

    /// Adds a shard and gives its number.
    pub(super) fn add(
        &mut self,
        parents: Vec<u32>,
        first_key: HashKey,
        last_key: HashKey,
        now: Timestamp,
    ) -> u32 {
        let number = self.next;
        let after = parents
            .iter()
            .filter_map(|parent| self.shard(*parent))
            .map(|parent| parent.born + 1)
            .max();
        self.next += 1;
        self.shards.push(ShardEntry {
            number,
            born: u64::try_from(now.as_millisecond())
                .unwrap_or(0)
                .max(after.unwrap_or(0)),
            parents,
            first_key,
            last_key,
            closed: None,
        });
        number
    }

    pub(super) fn shard(&self, number: u32) -> Option<&ShardEntry> {
        self.shards.iter().find(|shard| shard.number == number)
    }

    pub(super) fn shard_mut(&mut self, number: u32) -> Option<&mut ShardEntry> {
        self.shards.iter_mut().find(|shard| shard.number == number)
    }

    pub(super) fn open_shards(&self) -> impl Iterator<Item = &ShardEntry> {
        self.shards.iter().filter(|shard| shard.closed.is_none())
    }

    /// The name of a shard's log.
    pub(super) fn log(&self, number: u32) -> String {
        format!("{}-{number:08}", self.id)
    }
}

impl ShardEntry {
    /// The shard's id.
    pub(super) fn id(&self) -> String {
        shard_id(self.number)
    }
}

/// A shard's id.
pub(super) fn shard_id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The number of a shard's id.
pub(super) fn shard_number(id: &str) -> Option<u32> {
    id.strip_prefix("shardId-")?.parse().ok()
}

impl Catalogue {
    /// Reads the file; where there is none, there are no streams.
    pub(super) fn load(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = match disk.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
        let mut text = vec![0; length];
        let read = file.read_at(&mut text, 0)?;
        serde_json::from_slice(&text[..read]).map_err(io::Error::from)
    }

    /// Writes the file in the place of `old`'s, durably and at once. Where it stands there, and may be gone when the power goes, the old
    /// one is written again: whoever is told that nothing changed goes on with it.
    pub(super) fn replace(&self, old: &Self, disk: &dyn Disk, path: &Path) -> Result<(), Unsaved> {
        match self.save(disk, path) {
            Err(Unsaved::Unsure(error)) => match old.save(disk, path) {
                Ok(()) => Err(Unsaved::Unchanged(error)),
                Err(_) => Err(Unsaved::Unsure(error)),
            },
            saved => saved,
        }
    }

    fn save(&self, disk: &dyn Disk, path: &Path) -> Result<(), Unsaved> {
        let write = || {
            let beside = path.with_extension("new");
            let file = disk.create(&beside)?;
            file.write_at(&serde_json::to_vec_pretty(self)?, 0)?;
            file.sync()?;
            disk.rename(&beside, path)
        };
        write().map_err(Unsaved::Unchanged)?;
        disk.sync_folder(path.parent().unwrap_or(Path::new(".")))
            .map_err(Unsaved::Unsure)
    }
}
