//! What this gateway is known by to Kafka's groups: the same after a restart, and nobody else's.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use uuid::Uuid;

/// A name that holds for as long as the gateway's folder. Nobody else has it while this lives.
#[derive(Debug)]
pub struct Instance {
    name: String,
    /// Locked.
    _file: File,
}

impl Instance {
    /// The name that is kept in a folder; made where there is none. None where another process has it: then two gateways share the
    /// folder, and a name for both would make Kafka take the one for the other.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn of(folder: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("instance"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let name = match text.trim().parse::<Uuid>() {
            Ok(kept) => kept,
            Err(_) => {
                let made = Uuid::new_v4();
                file.set_len(0)?;
                io::Seek::rewind(&mut file)?;
                writeln!(file, "{made}")?;
                file.sync_all()?;
                made
            }
        };
        Ok(Some(Self {
            name: name.to_string(),
            _file: file,
        }))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_outlives_the_process_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams");
        let first = Instance::of(&path).unwrap().unwrap();
        let name = first.name().to_owned();
        assert!(Instance::of(&path).unwrap().is_none());
        drop(first);
        assert_eq!(Instance::of(&path).unwrap().unwrap().name(), name);
        fs::write(path.join("instance"), "torn").unwrap();
        let made = Instance::of(&path).unwrap().unwrap();
        assert_ne!(made.name(), name);
    }
}
