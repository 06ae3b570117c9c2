//! Streams of Amazon Kinesis as sources.

use std::sync::Arc;

use linkspan_model::config;
use linkspan_model::config::stream::{Aws, Start, StreamName};
use linkspan_streams::Lane;
use linkspan_streams::kinesis::Amazon;
use linkspan_streams::kinesis::consumer::{self, KinesisSource};
use linkspan_streams::kinesis::decode::Decoder;

use super::lanes::Lanes;
use super::leases::StoreLeases;
use super::{Behind, Lag, reading};
use crate::gateway::Gateway;

/// The most bytes that are fetched and wait to be taken, where the integration may not have less in flight.
const BUFFERED: usize = 32 << 20;

/// Opens a stream. Whoever commits what is read of it does so under the same `lanes`.
pub(crate) fn open(
    gateway: &Gateway,
    lanes: Arc<Lanes>,
    source: &config::Source,
    stream: &StreamName,
    aws: &Aws,
) -> (KinesisSource, consumer::Reading) {
    let given = &source.common;
    let in_flight = usize::try_from(given.in_flight_size.bytes()).unwrap_or(usize::MAX);
    let settings = consumer::Settings {
        stream: stream.to_string(),
        start: match given.start {
            Start::Earliest => consumer::Start::Earliest,
            Start::Latest => consumer::Start::Latest,
        },
        decoder: reading::decoder(source).unwrap_or(Decoder::new(Vec::new(), reading::LARGEST)),
        buffered: in_flight.min(BUFFERED),
        renew: gateway.config.store.lease / 4,
        ..consumer::Settings::default()
    };
    // The source's address is the operator's, as a store's is: it is not judged.
    let leases = Arc::new(StoreLeases::new(gateway, lanes));
    KinesisSource::open(amazon(aws), leases, settings)
}

/// Where and as whom Amazon is called.
pub(crate) fn amazon(aws: &Aws) -> Amazon {
    let endpoint = aws.endpoint.as_ref();
    let access_key = aws
        .access_key_id
        .as_ref()
        .zip(aws.secret_access_key.as_ref());
    Amazon {
        region: aws.region.clone(),
        endpoint: endpoint.map(|endpoint| endpoint.reveal().to_string()),
        access_key: access_key
            .map(|(id, secret)| (id.reveal().to_owned(), secret.reveal().to_owned())),
    }
}

impl Lag for consumer::Reading {
    fn behind(&self) -> Vec<(Lane, Behind)> {
        let behind = Self::behind(self).into_iter();
        behind.map(|(lane, by)| (lane, Behind::Time(by))).collect()
    }
}
