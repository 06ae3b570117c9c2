//! Durations and sizes as people write them: `"250ms"`, `"1h30m"`, `"64 KiB"`, `"20 MB"`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The units of a duration with their milliseconds, longest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The units of a size with their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Size(u64);

impl Size {
    /// A size from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in SIZE_UNITS {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return write!(f, "{} {unit}", self.0 / bytes);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Reads a size: a whole number and a unit, with or without a space.
///
/// # Errors
///
/// A clause that follows the text: `has no unit: …`.
pub fn parse_size(text: &str) -> Result<Size, String> {
    let (number, unit) = split_number(text.trim());
    if number.is_empty() {
        return Err("is not a size such as \"64 KiB\" or \"20 MB\"".to_owned());
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!(
            "has no unit: write \"{number} B\", \"{number} KiB\" or \"{number} MiB\""
        ));
    }
    let Some((_, bytes)) = SIZE_UNITS
        .into_iter()
        .find(|(name, _)| *name == unit || (unit == "kB" && *name == "KB"))
    else {
        return Err(format!(
            "has an unknown unit: the units are {}",
            list_units(&SIZE_UNITS)
        ));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(bytes))
        .map(Size)
        .ok_or_else(|| "is too large".to_owned())
}

/// Reads a duration: whole numbers, each with its unit, as in `"5s"` or `"1h30m"`.
///
/// # Errors
///
/// A clause that follows the text: `has no unit: …`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total = Some(0u64);
    if split_number(rest).0.is_empty() {
        return Err("is not a duration such as \"30s\", \"250ms\" or \"7d\"".to_owned());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        if number.is_empty() {
            return Err("is not a duration such as \"30s\", \"250ms\" or \"7d\"".to_owned());
        }
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!(
                "has no unit: write \"{number}s\" or \"{number}ms\""
            ));
        }
        let Some((_, millis)) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "has an unknown unit: the units are {}",
                list_units(&DURATION_UNITS)
            ));
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(millis));
        total = total
            .zip(part)
            .and_then(|(total, part)| total.checked_add(part));
        rest = next;
    }
    total
        .map(Duration::from_millis)
        .ok_or_else(|| "is too long".to_owned())
}

/// Writes a duration as [`parse_duration`] reads it, to the millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in DURATION_UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn list_units(units: &[(&str, u64)]) -> String {
    let names: Vec<_> = units.iter().rev().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn durations_read_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_read_back(number in any::<u64>(), shift in 0u32..50) {
            let size = Size(number >> shift << shift);
            prop_assert_eq!(parse_size(&size.to_string()), Ok(size));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }

    #[test]
    fn people_write_durations_in_many_ways() {
        for (text, millis) in [
            ("5s", 5_000),
            ("250ms", 250),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for (text, why) in [
            ("5", "has no unit: write \"5s\" or \"5ms\""),
            (
                "5 parsecs",
                "has an unknown unit: the units are ms, s, m, h, d",
            ),
            ("", "is not a duration such as \"30s\", \"250ms\" or \"7d\""),
            (
                "-5s",
                "is not a duration such as \"30s\", \"250ms\" or \"7d\"",
            ),
            ("999999999999999999d", "is too long"),
        ] {
            assert_eq!(parse_duration(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn people_write_sizes_in_many_ways() {
        for (text, bytes) in [
            ("64 KiB", 65_536),
            ("20MB", 20_000_000),
            ("1 kB", 1_000),
            ("0 B", 0),
            ("3 GiB", 3 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(Size(bytes)), "{text}");
        }
        for (text, why) in [
            (
                "64",
                "has no unit: write \"64 B\", \"64 KiB\" or \"64 MiB\"",
            ),
            (
                "64 Mb",
                "has an unknown unit: the units are B, KB, KiB, MB, MiB, GB, GiB, TB, TiB",
            ),
            ("big", "is not a size such as \"64 KiB\" or \"20 MB\""),
            ("99999999999 TiB", "is too large"),
        ] {
            assert_eq!(parse_size(text), Err(why.to_owned()), "{text}");
        }
    }
}
