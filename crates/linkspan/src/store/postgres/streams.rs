//! [`StreamStore`].

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::PostgresStore;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::streams::{
    Hold, LabelCount, LabelQuery, LaneStatus, ResultPage, ResultQuery, StreamCommit,
    StreamCommitted, StreamStore, TakeLanes, TakenLane,
};

fn unbuilt<T>() -> Result<T, StoreError> {
    Err(StoreError::new(ErrorKind::Internal, "use streams"))
}

#[async_trait]
impl StreamStore for PostgresStore {
    async fn take_lanes(&self, _: TakeLanes) -> Result<Vec<TakenLane>, StoreError> {
        unbuilt()
    }

    async fn renew_lanes(
        &self,
        _: &str,
        _: Vec<Hold>,
        _: SignedDuration,
        _: Timestamp,
    ) -> Result<Vec<Hold>, StoreError> {
        unbuilt()
    }

    async fn release_lanes(&self, _: &str, _: Vec<Hold>) -> Result<(), StoreError> {
        unbuilt()
    }

    async fn commit_stream(&self, _: StreamCommit) -> Result<StreamCommitted, StoreError> {
        unbuilt()
    }

    async fn lanes(&self, _: &str) -> Result<Vec<LaneStatus>, StoreError> {
        unbuilt()
    }

    async fn forget_lanes(&self, _: &str, _: Vec<String>) -> Result<(), StoreError> {
        unbuilt()
    }

    async fn list_results(&self, _: ResultQuery) -> Result<ResultPage, StoreError> {
        unbuilt()
    }

    async fn label_counts(&self, _: LabelQuery) -> Result<Vec<LabelCount>, StoreError> {
        unbuilt()
    }
}
