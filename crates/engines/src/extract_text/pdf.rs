//! PDF documents.

use linkspan_model::Code;

use super::{Extracted, Reader};
use crate::engine::{Document, EngineError};

pub(super) fn extract(
    _document: &Document<'_>,
    _reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    Err(EngineError::new(
        Code::UnsupportedMediaType,
        "this build reads no PDF documents",
    ))
}
