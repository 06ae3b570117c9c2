//! A bucket on a real S3 server that runs in the test's process.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use linkspan_model::config::{Config, Reference, S3};
use linkspan_testkit::S3Server;
use object_store::ObjectStore;
use tempfile::TempDir;

use super::{ObjectBlobs, ObjectOptions, connect};
use crate::store::conformance::blobs::BlobSite;
use crate::store::{Blobs, Digest, StoreError};

/// A bucket, and the local folder of a gateway that uses it.
pub(in crate::store) struct Bucket {
    pub(super) server: S3Server,
    pub(super) folder: TempDir,
}

pub(super) const BUCKET: &str = "documents";
pub(super) const PREFIX: &str = "team/linkspan";

impl Bucket {
    pub(in crate::store) fn new() -> Self {
        Self {
            server: S3Server::start(BUCKET),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn settings(&self) -> S3 {
        let resolve = |reference: Reference<'_>| match reference {
            Reference::Env("S3_KEY_ID") => Ok(S3Server::ACCESS_KEY_ID.to_owned()),
            Reference::Env("S3_SECRET") => Ok(S3Server::SECRET_ACCESS_KEY.to_owned()),
            _ => Err("no such reference".to_owned()),
        };
        let toml = self.server.toml();
        Config::parse(&toml, "linkspan.toml", &resolve)
            .unwrap()
            .store
            .s3
    }

    pub(super) fn client(&self, bucket: &str) -> Arc<dyn ObjectStore> {
        connect(bucket, &self.settings(), None).unwrap()
    }

    /// One of the gateways on the bucket, by its local folder.
    pub(super) async fn gateway(&self, name: &str) -> Result<ObjectBlobs, StoreError> {
        let options = ObjectOptions {
            prefix: PREFIX.to_owned(),
            cache: self.folder.path().join(name),
            cache_size: 1 << 30,
        };
        ObjectBlobs::open(self.client(BUCKET), options).await
    }

    pub(super) fn object(&self, name: &str) -> PathBuf {
        self.server.file(BUCKET, &format!("{PREFIX}/{name}"))
    }
}

#[async_trait]
impl BlobSite for Bucket {
    async fn open(&self) -> Arc<dyn Blobs> {
        Arc::new(self.gateway("cache").await.unwrap())
    }

    fn file(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.object(&format!("{}/{name}", &name[..2]))
    }
}
