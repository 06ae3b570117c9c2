//! One JSON file a result, named by the delivery's id: there whole, or not at all.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::append::{make_folder, sync_folder};
use crate::channels::{Parcel, Verdict};

/// Writes a file for each parcel into a folder. Called by one thread at a time for each folder.
pub(super) fn write(folder: &Path, name: &str, parcels: &[Parcel]) -> io::Result<Vec<Verdict>> {
    make_folder(folder)?;
    for parcel in parcels {
        let mut text = parcel.content.to_string();
        text.push('\n');
        // A name of its own for each attempt: two gateways may both think that the delivery is theirs.
        let part = |attempt: u32| folder.join(format!(".{}.{attempt}.part", parcel.id));
        let written = put(&part(parcel.attempt), text.as_bytes()).and_then(|()| {
            std::fs::rename(
                part(parcel.attempt),
                folder.join(format!("{}.json", parcel.id)),
            )
        });
        if let Err(error) = written {
            let _ = std::fs::remove_file(part(parcel.attempt));
            return Err(error);
        }
        // What a crash left of earlier attempts.
        for earlier in 1..parcel.attempt {
            let _ = std::fs::remove_file(part(earlier));
        }
    }
    sync_folder(Some(folder))?;
    let receipt =
        |parcel: &Parcel| Verdict::delivered(None, format!("written as {name}/{}.json", parcel.id));
    Ok(parcels.iter().map(receipt).collect())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = options.mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
