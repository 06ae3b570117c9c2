//! Listing results on PostgreSQL: in the order of an index, up to so many rows.

use uuid::Uuid;

use super::fault::Fault;
use super::jobs::Conditions;
use super::rows::{COLUMNS, Row, micro, text, uuid};
use crate::store::streams::{ResultPage, ResultQuery, Walk};

/// A page.
pub(super) async fn list(
    client: &deadpool_postgres::Client,
    query: &ResultQuery,
) -> Result<ResultPage, Fault> {
    let limit = limit(query);
    let (statement, conditions) = walk(query);
    let found = client.query(&statement, &conditions.values()).await?;
    let mut page = ResultPage::default();
    let mut fitting = 0;
    for columns in &found {
        if fitting == limit && columns.try_get(FITS)? {
            return Ok(page);
        }
        let job = Row::read(columns)?.job;
        page.next = Some(job.id);
        page.looked = u32::try_from(columns.try_get::<_, i64>(PLACE)?).map_err(Fault::damaged)?;
        if columns.try_get(FITS)? {
            fitting += 1;
        }
        if let Some(result) = columns.try_get(RESULT)? {
            page.results.push((job, result));
        }
    }
    // Fewer rows than that are there.
    page.next = page.next.filter(|_| page.looked == query.most_looked_at());
    Ok(page)
}

/// What stands behind a job's columns: the result; whether the row fits; the how many-th it is of those that are looked at.
const RESULT: usize = 22;
const FITS: usize = 23;
const PLACE: usize = 24;

/// The statement that lists results, with its values: the rows that fit, and the last that is looked at whether it fits or not.
///
/// Only what an index knows stands in the inner statement: what else there is must not lead the planner to another index, and does not
/// count for how many rows are looked at. Rows are read only as far as the outer limit needs them, and only their results are looked up.
pub(super) fn walk(query: &ResultQuery) -> (String, Conditions) {
    let mut conditions = Conditions::default();
    let fits = fits(query, &mut conditions);
    match query.walk() {
        Walk::Record(record) => {
            conditions.add("request_id =", Some(text(record)));
        }
        Walk::Failed(integration) => {
            conditions.texts.push("state = 4".to_owned());
            conditions.add("integration =", Some(text(integration)));
        }
        Walk::Caller(caller) => conditions.add("caller =", Some(text(caller))),
        Walk::Integration(integration) => {
            conditions.add("integration =", Some(text(integration)));
        }
        Walk::AllFailed => conditions.texts.push("state = 4".to_owned()),
        Walk::All => {}
    }
    // Only the partitions of those days are looked at.
    let (least, end) = query.ids();
    conditions.add("id >=", least.map(Uuid::from_bytes));
    conditions.add("id <", end.map(Uuid::from_bytes));
    conditions.add("id <", query.after.map(uuid));
    let look = query.most_looked_at();
    // One more than asked for says whether there is a next page.
    let statement = format!(
        "SELECT {COLUMNS}, CASE WHEN fits THEN (SELECT r.result FROM results r WHERE r.id = looked.id) END, fits, place FROM ( \
             SELECT *, {fits} AS fits, row_number() OVER (ORDER BY id DESC) AS place FROM jobs WHERE {} ORDER BY id DESC LIMIT {look} \
         ) AS looked WHERE fits OR place = {look} ORDER BY id DESC LIMIT {}",
        conditions.text(),
        limit(query) + 1
    );
    (statement, conditions)
}

/// Whether a row has a result that is asked for. Its values are added, and no condition.
fn fits(query: &ResultQuery, conditions: &mut Conditions) -> String {
    let state = match query.failed {
        None => "state IN (3, 4)",
        Some(false) => "state = 3",
        Some(true) => "state = 4",
    };
    conditions.texts.push(state.to_owned());
    if query.record.is_some() {
        let of_a_record = "starts_with(caller, 'stream:')";
        conditions.texts.push(of_a_record.to_owned());
    }
    conditions.within(query.sight.as_ref());
    conditions.add("integration =", query.integration.as_deref().map(text));
    conditions.add("created >=", query.from.map(micro));
    conditions.add("created <", query.until.map(micro));
    let fits = conditions.text();
    conditions.texts.clear();
    format!("({fits})")
}

const fn limit(query: &ResultQuery) -> u32 {
    match query.limit {
        0 => 1,
        limit if limit > 1000 => 1000,
        limit => limit,
    }
}
