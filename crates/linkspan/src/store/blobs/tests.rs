//! The cases of `conformance/blobs.rs`, over each store of blobs.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Blobs, Digest, FileBlobs};
use crate::store::conformance::blobs::{BlobSite, blob_conformance};

struct Folder(tempfile::TempDir);

#[async_trait]
impl BlobSite for Folder {
    async fn open(&self) -> Arc<dyn Blobs> {
        Arc::new(FileBlobs::open(self.0.path()).unwrap())
    }

    fn file(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.0.path().join(&name[..2]).join(&name[2..])
    }
}

mod in_a_folder {
    use super::*;

    blob_conformance!(Folder(tempfile::tempdir().unwrap()));
}

mod in_a_bucket {
    use super::*;
    use crate::store::blobs::object::testing::Bucket;

    blob_conformance!(Bucket::new());
}
