//! What leaves an evaluation: values of a bounded size, and sentences that hold nothing of the input.

use std::fmt::{self, Write as _};

use jaq_json::{Num, Val};
use serde_json::{Map, Number, Value};

/// The largest output, in bytes of its texts and 64 for each value.
const LARGEST: usize = 64 << 20;

/// The deepest output, as deep as JSON is read elsewhere.
const DEEPEST: usize = 120;

/// The longest error that is looked at.
const LONGEST_ERROR: usize = 64 << 10;

/// The kinds of values that jaq's errors name.
const KINDS: [&str; 8] = [
    "integer",
    "floating-point number",
    "number",
    "string",
    "array",
    "object",
    "iterable (array or object)",
    "rangeable (array or string)",
];

/// An output as JSON.
///
/// # Errors
///
/// It is too large or too deep, or no JSON.
pub(super) fn to_json(output: &Val) -> Result<Value, String> {
    convert(output, DEEPEST, &mut { LARGEST })
}

fn convert(value: &Val, depth: usize, left: &mut usize) -> Result<Value, String> {
    let mut take = |size: usize| {
        *left = left
            .checked_sub(size + 64)
            .ok_or_else(|| format!("the filter's output is larger than {} MiB", LARGEST >> 20))?;
        Ok::<_, String>(())
    };
    let deeper = || {
        depth
            .checked_sub(1)
            .ok_or_else(|| format!("the filter's output is nested more than {DEEPEST} deep"))
    };
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(bool) => Value::Bool(*bool),
        Val::Num(number) => {
            take(0)?;
            convert_number(number)
        }
        Val::TStr(bytes) => {
            take(bytes.len())?;
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Val::BStr(_) => return Err("the filter's output holds bytes, which no JSON can".to_owned()),
        Val::Arr(items) => {
            take(0)?;
            let depth = deeper()?;
            let items = items.iter().map(|item| convert(item, depth, left));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Val::Obj(entries) => {
            take(0)?;
            let depth = deeper()?;
            let mut object = Map::with_capacity(entries.len());
            for (key, value) in entries.iter() {
                if !matches!(key, Val::TStr(_)) {
                    return Err(
                        "a key of an object in the filter's output is not a text".to_owned()
                    );
                }
                if let Value::String(key) = convert(key, depth, left)? {
                    object.insert(key, convert(value, depth, left)?);
                }
            }
            Value::Object(object)
        }
    })
}

/// As jq writes them: what is no number is null, and what is too large is the largest.
fn convert_number(number: &Num) -> Value {
    let float = |float: f64| {
        let bounded = float.clamp(f64::MIN, f64::MAX);
        Number::from_f64(bounded).map_or(Value::Null, Value::Number)
    };
    match number {
        Num::Int(int) => Value::from(*int as i64),
        Num::Float(number) => float(*number),
        Num::BigInt(_) | Num::Dec(_) => {
            let text = number.to_string();
            match text.parse::<Number>() {
                Ok(number) => Value::Number(number),
                Err(_) => text.parse().map_or(Value::Null, float),
            }
        }
    }
}

/// Why an evaluation failed. jaq's own texts quote values; what is taken over of them is what also stands in the filter or in jaq.
pub(super) fn describe(error: &jaq_json::Error, filter: &str) -> String {
    let mut text = Bounded(String::new());
    let whole = write!(text, "{error}").is_ok();
    // A text as an error is shown as JSON.
    let text = text.0.trim_matches('"');
    if let Some(rest) = text.strip_prefix("cannot use ") {
        let kind = KINDS
            .into_iter()
            .find(|kind| whole && rest.ends_with(&format!(" as {kind}")));
        let met = written_kind(rest);
        return format!("it uses {met} as {}", kind.unwrap_or("what it is not"));
    }
    let written = whole && text.len() > 2 && filter.contains(text);
    match () {
        () if written => format!("it gives the error {text:?}"),
        () if text.starts_with("cannot index ") => {
            "it takes a part of a value that has no such parts".to_owned()
        }
        () if text.starts_with("cannot calculate ") => {
            "it calculates with values of kinds that do not go together".to_owned()
        }
        () if text.starts_with("cannot parse ") => "it reads a text as what it is not".to_owned(),
        () if text.starts_with("invalid regex") => {
            "it holds a regular expression that cannot be read".to_owned()
        }
        () if text.starts_with("invalid path expression") => {
            "it changes what is not a part of its input".to_owned()
        }
        () => "it gives an error; its text is left out, because it may hold a part of the input"
            .to_owned(),
    }
}

/// The kind of a value, in words.
pub(super) const fn kind(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "true or false",
        Val::Num(_) => "a number",
        Val::TStr(_) => "a string",
        Val::BStr(_) => "bytes",
        Val::Arr(_) => "an array",
        Val::Obj(_) => "an object",
    }
}

/// The kind of a value by how it is written: nothing of the value itself.
fn written_kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'n') if text.starts_with("null ") => "null",
        Some(b't' | b'f') => "true or false",
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "a value",
    }
}

/// A text that takes so much and no more.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > LONGEST_ERROR {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}
