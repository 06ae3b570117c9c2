//! The operations, by their names.

mod manage;
mod read;
mod reshard;
mod tags;
mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::catalogue::StreamEntry;
use super::fault::{Fault, Kind};
use super::service::{Access, Call, Service, State, name_of};
use super::shapes::{self, Which};

pub(super) use reshard::bounded;

/// One call of an operation.
struct Asked<'a, T> {
    service: &'a Service,
    call: &'a Call<'a>,
    request: T,
}

impl<T> Asked<'_, T> {
    /// Refuses who may not do this with that stream.
    fn allow(&self, access: Access, stream: Option<&str>) -> Result<(), Fault> {
        if (self.call.may)(access, stream) {
            return Ok(());
        }
        let scope = match access {
            Access::Write => "invoke",
            Access::Read => "read",
            Access::Admin => "admin",
        };
        let on = stream.map_or_else(|| "all streams".to_owned(), |name| format!("stream {name}"));
        Err(Fault::new(
            Kind::AccessDenied,
            format!(
                "The access key may not perform {} on {on}: it needs the scope {scope}.",
                self.call.operation
            ),
        ))
    }

    /// The stream that is to be looked at. Who may not is told so whether it is there or not.
    fn look_at<'s>(
        &self,
        state: &'s State,
        which: &Which,
    ) -> Result<(&'s str, &'s StreamEntry), Fault> {
        self.allow(Access::Read, Some(&name_of(which)?))?;
        state.named(which)
    }

    /// A stream's ARN.
    fn arn(&self, name: &str) -> String {
        let region = self.call.region;
        format!(
            "arn:aws:kinesis:{region}:{}:stream/{name}",
            super::service::ACCOUNT
        )
    }
}

fn read<'a, T: DeserializeOwned>(
    service: &'a Service,
    call: &'a Call<'a>,
) -> Result<Asked<'a, T>, Fault> {
    Ok(Asked {
        service,
        call,
        request: call.codec.read(call.body)?,
    })
}

fn written<T: Serialize>(call: &Call<'_>, answer: Result<T, Fault>) -> Result<Vec<u8>, Fault> {
    answer.map(|answer| call.codec.write(&answer))
}

macro_rules! operations {
    ($($name:literal => $operation:path;)+) => {
        /// Performs a call, or says why not.
        pub(super) async fn perform(service: &Service, call: &Call<'_>) -> Result<Vec<u8>, Fault> {
            match call.operation {
                $($name => written(call, $operation(read(service, call)?).await),)+
                // The API answers these with an empty body.
                other => Err(Fault::new(
                    Kind::UnknownOperation,
                    format!("The operation {other} is not one that this service performs."),
                )),
            }
        }
    };
}

operations! {
    "AddTagsToStream" => tags::add;
    "CreateStream" => manage::create;
    "DecreaseStreamRetentionPeriod" => manage::decrease_retention;
    "DeleteStream" => manage::delete;
    "DescribeStream" => manage::describe;
    "DescribeStreamSummary" => manage::summary;
    "GetRecords" => read::records;
    "GetShardIterator" => read::iterator;
    "IncreaseStreamRetentionPeriod" => manage::increase_retention;
    "ListShards" => reshard::list;
    "ListStreams" => manage::list;
    "ListTagsForStream" => tags::list;
    "MergeShards" => reshard::merge;
    "PutRecord" => write::one;
    "PutRecords" => write::many;
    "RemoveTagsFromStream" => tags::remove;
    "SplitShard" => reshard::split;
}

/// A member that must be there.
fn required<T>(value: Option<T>, member: &str) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::validation("null", member, "Member must not be null"))
}

/// A number between two bounds; `default` where it is absent.
fn within(
    value: Option<i64>,
    member: &str,
    least: i64,
    most: i64,
    default: i64,
) -> Result<usize, Fault> {
    let value = value.unwrap_or(default);
    let constraint = if value < least {
        format!("Member must have value greater than or equal to {least}")
    } else if value > most {
        format!("Member must have value less than or equal to {most}")
    } else {
        return Ok(usize::try_from(value).unwrap_or(0));
    };
    Err(Fault::validation(value, member, &constraint))
}

/// An operation that says nothing.
type Silent = Result<shapes::Nothing, Fault>;
