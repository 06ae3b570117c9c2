//! Listing results on SQLite: row by row in the order of an index, up to so many rows.

use linkspan_model::InvocationId;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::jobs::within;
use super::rows::{COLUMNS, Row};
use crate::store::streams::{ResultPage, ResultQuery, Walk};

/// A page.
pub(super) fn list(connection: &Connection, query: &ResultQuery) -> rusqlite::Result<ResultPage> {
    let limit = query.limit.clamp(1, 1000) as usize;
    let (statement, values) = walk(query);
    let mut walk = connection.prepare_cached(&statement)?;
    let mut find = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, result FROM jobs JOIN results USING (seq) WHERE seq = ?1"
    ))?;
    let mut page = ResultPage::default();
    let mut last = None;
    let mut rows = walk.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        page.looked += 1;
        last = Some(InvocationId::from_bytes(row.get(0)?));
        if !row.get::<_, bool>(2)? {
            continue;
        }
        if page.results.len() == limit {
            page.next = page.results.last().map(|(job, _)| job.id);
            return Ok(page);
        }
        let seq: i64 = row.get(1)?;
        let found = find.query_row([seq], |row| Ok((Row::read(row)?.job, row.get(RESULT)?)));
        page.results.extend(found.optional()?);
    }
    page.next = last.filter(|_| page.looked == query.most_looked_at());
    Ok(page)
}

/// Where the result stands behind a job's columns.
const RESULT: usize = 23;

/// The statement that goes through rows, each with whether it fits, and its values. Only what the index knows stands behind WHERE.
pub(super) fn walk(query: &ResultQuery) -> (String, Vec<Box<dyn ToSql>>) {
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let fits = fits(query, &mut values);
    let mut ranges = Vec::new();
    let mut add = |condition: &str, value: Box<dyn ToSql>| {
        ranges.push(condition.to_owned());
        values.push(value);
    };
    let index = match query.walk() {
        Walk::Record(record) => {
            add(
                "caller >= 'stream:' AND caller < 'stream;' AND request_id = ?",
                Box::new(record.to_owned()),
            );
            "INDEXED BY jobs_by_record"
        }
        Walk::Failed(integration) => {
            add(
                "state = 4 AND integration = ?",
                Box::new(integration.to_owned()),
            );
            "INDEXED BY jobs_failed"
        }
        Walk::Caller(caller) => {
            add("caller = ?", Box::new(caller.to_owned()));
            "INDEXED BY jobs_by_caller"
        }
        Walk::Integration(integration) => {
            add("integration = ?", Box::new(integration.to_owned()));
            "INDEXED BY jobs_by_integration"
        }
        Walk::AllFailed => {
            add("state = ?", Box::new(4));
            "INDEXED BY jobs_by_state"
        }
        Walk::All => "",
    };
    let (least, end) = query.ids();
    if let Some(least) = least {
        add("id >= ?", Box::new(least));
    }
    // Of two ends the nearer one: SQLite searches by one only.
    let after = query.after.map(|after| *after.as_bytes());
    if let Some(end) = [end, after].into_iter().flatten().min() {
        add("id < ?", Box::new(end));
    }
    if ranges.is_empty() {
        ranges.push("1".to_owned());
    }
    let statement = format!(
        "SELECT id, seq, {fits} FROM jobs {index} WHERE {} ORDER BY id DESC LIMIT {}",
        ranges.join(" AND "),
        query.most_looked_at()
    );
    (statement, values)
}

/// Whether a row has a result that is asked for.
fn fits(query: &ResultQuery, values: &mut Vec<Box<dyn ToSql>>) -> String {
    let mut conditions = vec![match query.failed {
        None => "state IN (3, 4)",
        Some(false) => "state = 3",
        Some(true) => "state = 4",
    }];
    let mut add = |condition, value| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(integration) = &query.integration {
        add("integration = ?", Box::new(integration.clone()));
    }
    if let Some(from) = query.from {
        add("created >= ?", Box::new(from.as_microsecond()));
    }
    if let Some(until) = query.until {
        add("created < ?", Box::new(until.as_microsecond()));
    }
    let mut fits = conditions.join(" AND ");
    if let Some(sight) = &query.sight {
        fits = format!("{fits} AND {}", within(sight, "", values));
    }
    fits
}
