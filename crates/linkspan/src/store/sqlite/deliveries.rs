//! [`DeliveryQueue`], [`DeliveryStore`] and [`SessionStore`] on SQLite.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::DeliveryId;

use super::SqliteStore;
use crate::store::audit::Actor;
use crate::store::deliveries::{
    DeliveriesCommanded, Delivery, DeliveryAttempt, DeliveryClaim, DeliveryClaims, DeliveryCommand,
    DeliveryEnd, DeliveryPage, DeliveryQuery, DeliveryQueue, DeliveryStore, Endpoint,
    EndpointStatus,
};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::sessions::{SessionRecord, SessionStore};

const LATER: StoreError = StoreError::new(ErrorKind::Internal, "do this yet");

#[async_trait]
impl DeliveryQueue for SqliteStore {
    async fn claim_deliveries(&self, _: DeliveryClaim) -> Result<DeliveryClaims, StoreError> {
        Err(LATER)
    }
    async fn finish_deliveries(
        &self,
        _: Vec<DeliveryEnd>,
        _: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        Err(LATER)
    }
    async fn renew_deliveries(
        &self,
        _: Vec<DeliveryAttempt>,
        _: SignedDuration,
        _: Timestamp,
    ) -> Result<Vec<DeliveryAttempt>, StoreError> {
        Err(LATER)
    }
    async fn recover_deliveries(&self, _: bool, _: Timestamp) -> Result<u64, StoreError> {
        Err(LATER)
    }
}

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn get_delivery(&self, _: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        Err(LATER)
    }
    async fn list_deliveries(&self, _: DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        Err(LATER)
    }
    async fn command_deliveries(
        &self,
        _: DeliveryQuery,
        _: DeliveryCommand,
        _: Actor,
        _: Timestamp,
    ) -> Result<DeliveriesCommanded, StoreError> {
        Err(LATER)
    }
    async fn endpoints(&self) -> Result<Vec<EndpointStatus>, StoreError> {
        Err(LATER)
    }
    async fn set_pause(
        &self,
        _: Endpoint,
        _: Option<String>,
        _: Actor,
        _: Timestamp,
    ) -> Result<u64, StoreError> {
        Err(LATER)
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn insert_session(&self, _: SessionRecord) -> Result<(), StoreError> {
        Err(LATER)
    }
    async fn find_session(
        &self,
        _: [u8; 32],
        _: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError> {
        Err(LATER)
    }
    async fn remove_session(&self, _: [u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
        Err(LATER)
    }
    async fn settle(&self, _: &str, _: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        Err(LATER)
    }
}
