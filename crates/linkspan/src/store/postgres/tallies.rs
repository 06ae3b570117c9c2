//! How many jobs and deliveries are in which state, and how often which label came out: changes are added as rows in the transaction that causes them, so that no two
//! transactions wait for each other's count, and summed up now and then.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use futures_util::future::try_join;
use linkspan_model::{DeliveryState, JobState};

use super::fault::Fault;
use super::rows::code;
use crate::store::deliveries::Endpoint;

/// What a transaction changes of the counts.
#[derive(Default)]
pub(super) struct Tallies {
    jobs: BTreeMap<(String, i16), i64>,
    deliveries: BTreeMap<(Endpoint, i16), i64>,
}

impl Tallies {
    /// So many jobs come (or go, below 0).
    pub(super) fn jobs(&mut self, integration: &str, state: JobState, count: i64) {
        *self
            .jobs
            .entry((integration.to_owned(), code(state)))
            .or_default() += count;
    }

    /// So many deliveries come (or go, below 0).
    pub(super) fn deliveries(&mut self, endpoint: &Endpoint, state: DeliveryState, count: i64) {
        *self
            .deliveries
            .entry((endpoint.clone(), super::deliveries::rows::code(state)))
            .or_default() += count;
    }

    /// Writes them, in the transaction.
    pub(super) async fn write(mut self, tx: &Transaction<'_>) -> Result<(), Fault> {
        self.jobs.retain(|_, count| *count != 0);
        self.deliveries.retain(|_, count| *count != 0);
        try_join(self.write_jobs(tx), self.write_deliveries(tx)).await?;
        Ok(())
    }

    async fn write_jobs(&self, tx: &Transaction<'_>) -> Result<(), Fault> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let integrations: Vec<&str> = self.jobs.keys().map(|(name, _)| name.as_str()).collect();
        let states: Vec<i16> = self.jobs.keys().map(|(_, state)| *state).collect();
        let counts: Vec<i64> = self.jobs.values().copied().collect();
        let statement = tx
            .prepare_cached(
                "INSERT INTO tallies (integration, state, jobs) SELECT * FROM unnest($1::text[], $2::int2[], $3::int8[])",
            )
            .await?;
        tx.execute(&statement, &[&integrations, &states, &counts])
            .await?;
        Ok(())
    }

    async fn write_deliveries(&self, tx: &Transaction<'_>) -> Result<(), Fault> {
        if self.deliveries.is_empty() {
            return Ok(());
        }
        let (mut integrations, mut channels, mut states, mut counts) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((endpoint, state), count) in &self.deliveries {
            integrations.push(&endpoint.integration);
            channels.push(&endpoint.channel);
            states.push(*state);
            counts.push(*count);
        }
        let statement = tx
            .prepare_cached(
                "INSERT INTO delivery_tallies (integration, channel, state, deliveries) \
                 SELECT * FROM unnest($1::text[], $2::text[], $3::int2[], $4::int8[])",
            )
            .await?;
        tx.execute(&statement, &[&integrations, &channels, &states, &counts])
            .await?;
        Ok(())
    }
}

/// Sums the rows up. One transaction; a count that is asked meanwhile sees all of it or nothing.
pub(super) const FOLD: &str = "
    WITH gone AS (DELETE FROM tallies RETURNING integration, state, jobs)
    INSERT INTO tallies SELECT integration, state, sum(jobs)::int8 FROM gone GROUP BY 1, 2 HAVING sum(jobs) <> 0;
    WITH gone AS (DELETE FROM delivery_tallies RETURNING integration, channel, state, deliveries)
    INSERT INTO delivery_tallies SELECT integration, channel, state, sum(deliveries)::int8 FROM gone GROUP BY 1, 2, 3
    HAVING sum(deliveries) <> 0;
    WITH gone AS (DELETE FROM label_changes RETURNING integration, minute, service, label, count)
    INSERT INTO labels SELECT integration, minute, service, label, sum(count)::int8 FROM gone GROUP BY 1, 2, 3, 4
    ON CONFLICT (integration, minute, service, label) DO UPDATE SET count = labels.count + excluded.count";
