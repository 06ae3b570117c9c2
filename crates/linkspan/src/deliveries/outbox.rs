//! Which deliveries a result makes: one for each channel of its integration that wants it.

use jiff::Timestamp;
use linkspan_model::{DeliveryId, ResultDocument};
use serde_json::Value;

use super::{Deliveries, Opened};
use crate::store::NewDelivery;

impl Deliveries {
    /// The deliveries of a result, to be stored with its job's end. A filter that cannot be evaluated makes a dead letter: somebody
    /// finds it there, and can replay it when the filter is repaired.
    pub async fn outbox(&self, result: &ResultDocument, now: Timestamp) -> Vec<NewDelivery> {
        let mut document = Document::new(result);
        let mut deliveries = Vec::new();
        for opened in self.of(&result.integration) {
            let wanted = match &opened.when {
                None => Ok(true),
                Some(when) => match document.json() {
                    Ok(json) => {
                        let wanted = when.is_true_limited(json).await;
                        wanted.map_err(|error| error.sentence)
                    }
                    Err(error) => Err(error),
                },
            };
            deliveries.extend(opened.delivery(wanted, now));
        }
        deliveries
    }
}

impl Opened {
    /// The delivery of a result that is wanted, or a dead one where that cannot be told.
    fn delivery(&self, wanted: Result<bool, String>, now: Timestamp) -> Option<NewDelivery> {
        let dead = match wanted {
            Ok(false) => return None,
            Ok(true) => None,
            Err(error) => Some(format!("when: {error}")),
        };
        let id = DeliveryId::new();
        if let Some(reason) = &dead {
            tracing::error!(delivery = %id, endpoint = %self.endpoint, reason, "a delivery is a dead letter from the start");
        }
        Some(NewDelivery {
            id,
            channel: self.endpoint.channel.clone(),
            kind: self.kind.to_owned(),
            receiver: self.channel.receiver(),
            due: self.channel.due(now),
            dead,
        })
    }
}

/// A result document, as filters take it: made when the first one wants it.
struct Document<'r> {
    result: &'r ResultDocument,
    json: Option<Value>,
}

impl<'r> Document<'r> {
    const fn new(result: &'r ResultDocument) -> Self {
        Self { result, json: None }
    }

    fn json(&mut self) -> Result<&Value, String> {
        if self.json.is_none() {
            let json = serde_json::to_value(self.result)
                .map_err(|_| "the result cannot be written as JSON".to_owned())?;
            self.json = Some(json);
        }
        Ok(self.json.as_ref().unwrap_or(&Value::Null))
    }
}
