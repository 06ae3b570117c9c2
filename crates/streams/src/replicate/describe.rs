//! Topics with their ids: `DescribeTopics`, which rdkafka does not offer.
#![expect(
    unsafe_code,
    reason = "rdkafka has no call for DescribeTopics; librdkafka's is wrapped here and nowhere else"
)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode as Code;

/// A topic of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The id that the cluster gave when the topic was made: a topic that is made anew under the same name has another.
    pub(super) id: String,
    pub(super) partitions: i32,
}

/// The topics of these names that are there.
pub(super) fn topics<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    timeout: Duration,
) -> Result<HashMap<String, Described>, Code> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let names: Vec<CString> = names
        .iter()
        .filter_map(|name| CString::new(*name).ok())
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = client.native_ptr();
    // SAFETY: the client lives as long as the borrow. librdkafka copies the names. Each object is destroyed once, after its last use;
    // what is read out of the event is copied before the event is destroyed.
    unsafe {
        let queue = native::rd_kafka_queue_new(client);
        let options = native::rd_kafka_AdminOptions_new(
            client,
            native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut text = [0; 256];
        native::rd_kafka_AdminOptions_set_request_timeout(
            options,
            millis,
            text.as_mut_ptr(),
            text.len(),
        );
        let collection =
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        native::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = native::rd_kafka_queue_poll(queue, millis.saturating_add(1_000));
        let answer = if event.is_null() {
            Err(Code::OperationTimedOut)
        } else {
            let answer = read(event);
            native::rd_kafka_event_destroy(event);
            answer
        };
        native::rd_kafka_TopicCollection_destroy(collection);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
///
/// `event` is a live event of librdkafka.
unsafe fn read(event: *mut native::rd_kafka_event_t) -> Result<HashMap<String, Described>, Code> {
    let mut topics = HashMap::new();
    // SAFETY: all pointers come from librdkafka and live as long as the event.
    unsafe {
        let fault = native::rd_kafka_event_error(event);
        if fault != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(fault.into());
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(Code::Fail);
        }
        let mut count = 0;
        let list = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let topic = *list.add(index);
            let fault = native::rd_kafka_TopicDescription_error(topic);
            if !fault.is_null() {
                match native::rd_kafka_error_code(fault) {
                    native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                    native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => {
                        continue;
                    }
                    other => return Err(other.into()),
                }
            }
            let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            let mut partitions = 0;
            native::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
            let described = Described {
                id: format!(
                    "{:016x}{:016x}",
                    native::rd_kafka_Uuid_most_significant_bits(id),
                    native::rd_kafka_Uuid_least_significant_bits(id)
                ),
                partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            };
            topics.insert(name.to_string_lossy().into_owned(), described);
        }
    }
    Ok(topics)
}
