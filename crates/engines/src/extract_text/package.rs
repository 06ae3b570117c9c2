//! ZIP packages, opened under a bound on what they really unpack to.

use std::io::{Cursor, Read};

use linkspan_model::Code;
use zip::ZipArchive;
use zip::result::ZipError;

use super::unreadable;
use crate::engine::EngineError;

/// Most parts of one package. A workbook of a thousand sheets has some thousands.
const MAX_PARTS: usize = 20_000;

/// A ZIP package. Every byte that it inflates counts against one bound.
pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    max_unpacked: u64,
    left: u64,
}

impl<'a> Package<'a> {
    /// Reads the package's directory.
    ///
    /// # Errors
    ///
    /// `unreadable-document` for a damaged one, `document-too-complex` for one with too many parts.
    pub(super) fn open(bytes: &'a [u8], max_unpacked: u64) -> Result<Self, EngineError> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            unreadable("the document is a damaged ZIP package: its directory cannot be read, the file may be cut off")
                .because(error)
        })?;
        if archive.len() > MAX_PARTS {
            return Err(EngineError::new(
                Code::DocumentTooComplex,
                format!(
                    "the document is a package of {} parts; at most {MAX_PARTS} are read",
                    archive.len()
                ),
            ));
        }
        Ok(Self {
            archive,
            max_unpacked,
            left: max_unpacked,
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(name).is_some()
    }

    /// One part's content, none where the package has no such part.
    ///
    /// # Errors
    ///
    /// `unreadable-document` where the part is damaged, `document-too-complex` where it unpacks to more than is left of the bound.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let mut content = Vec::new();
        let found = match self.archive.by_name(name) {
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => Err(std::io::Error::other(error)),
            Ok(part) => part.take(self.left + 1).read_to_end(&mut content),
        };
        if content.len() as u64 > self.left {
            return Err(unpacks_to_too_much(self.max_unpacked));
        }
        self.left -= content.len() as u64;
        match found {
            Ok(_) => Ok(Some(content)),
            Err(error) => {
                Err(unreadable(format!("the document's part {name} is damaged")).because(error))
            }
        }
    }

    /// One part as text.
    pub(super) fn text_part(&mut self, name: &str) -> Result<Option<String>, EngineError> {
        Ok(self
            .part(name)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Inflates every part and counts, before a library that trusts sizes sees the package.
    ///
    /// # Errors
    ///
    /// `document-too-complex` when the parts unpack to more than the bound.
    pub(super) fn measure(&mut self) -> Result<(), EngineError> {
        let mut buffer = vec![0; 64 * 1024];
        for index in 0..self.archive.len() {
            // A part that does not open or breaks off is the reader's to report: here only what it yields counts.
            let Ok(mut part) = self.archive.by_index(index) else {
                continue;
            };
            while let Ok(read @ 1..) = part.read(&mut buffer) {
                self.left = self
                    .left
                    .checked_sub(read as u64)
                    .ok_or_else(|| unpacks_to_too_much(self.max_unpacked))?;
            }
        }
        Ok(())
    }
}

fn unpacks_to_too_much(max_unpacked: u64) -> EngineError {
    EngineError::new(
        Code::DocumentTooComplex,
        format!("the document unpacks to more than {max_unpacked} bytes (option `max_unpacked`)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract_text::testing;

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let bytes = testing::zip(&[("big.xml", &vec![b' '; 4 << 20])]);
        assert!(bytes.len() < 10_000);
        let mut package = Package::open(&bytes, 1 << 20).unwrap();
        assert_eq!(
            package.measure().unwrap_err().code,
            Code::DocumentTooComplex
        );
        let mut package = Package::open(&bytes, 1 << 20).unwrap();
        assert_eq!(
            package.part("big.xml").unwrap_err().code,
            Code::DocumentTooComplex
        );
    }

    #[test]
    fn a_bomb_gains_nothing_by_claiming_to_be_small() {
        let mut bytes = testing::zip(&[("big.xml", &vec![b' '; 4 << 20])]);
        let size = (4u32 << 20).to_le_bytes();
        while let Some(at) = bytes.windows(4).position(|w| w == size) {
            bytes[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
        }
        let error = Package::open(&bytes, 1 << 20)
            .unwrap()
            .part("big.xml")
            .unwrap_err();
        assert!(
            matches!(
                error.code,
                Code::DocumentTooComplex | Code::UnreadableDocument
            ),
            "{error}"
        );
    }

    #[test]
    fn the_bound_is_on_all_parts_together() {
        let part = vec![b' '; 1000];
        let bytes = testing::zip(&[("a", &part), ("b", &part)]);
        let mut package = Package::open(&bytes, 1500).unwrap();
        assert_eq!(package.part("a").unwrap().map(|p| p.len()), Some(1000));
        assert_eq!(
            package.part("b").unwrap_err().code,
            Code::DocumentTooComplex
        );
        assert!(Package::open(&bytes, 2000).unwrap().measure().is_ok());
        assert!(
            Package::open(&bytes, 2000)
                .unwrap()
                .part("c")
                .unwrap()
                .is_none()
        );
    }
}
