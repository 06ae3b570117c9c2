//! The ranges of offsets that are done beyond the committed offset, as text for the offset's metadata.
//!
//! Brokers take 4,096 bytes of metadata (`offset.metadata.max.bytes`). A range is two numbers, how far it is from the end of the one
//! before and how long it is, each in seven bits a byte, all in base64: three characters for most ranges.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// First and last offset.
pub(crate) type Range = (u64, u64);

/// What the text begins with. Metadata of others begins otherwise.
const MARK: &str = "linkspan1:";

/// The most bytes of metadata.
const LIMIT: usize = 4_096;

/// The ranges as text, ascending and apart from each other, all at `next` or beyond. None where they do not fit.
pub(crate) fn write(next: u64, ranges: &[Range]) -> Option<String> {
    if ranges.is_empty() {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(ranges.len() * 2);
    let mut at = next;
    for &(first, last) in ranges {
        number(&mut bytes, first.checked_sub(at)?);
        number(&mut bytes, last.checked_sub(first)?);
        at = last.checked_add(1)?;
    }
    let text = format!("{MARK}{}", STANDARD_NO_PAD.encode(bytes));
    (text.len() <= LIMIT).then_some(text)
}

/// The ranges of a text. None where it is ours and cannot be read.
pub(crate) fn read(next: u64, text: &str) -> Option<Vec<Range>> {
    let Some(text) = text.strip_prefix(MARK) else {
        return Some(Vec::new());
    };
    let bytes = STANDARD_NO_PAD.decode(text).ok()?;
    let mut bytes = bytes.iter().copied();
    let mut ranges = Vec::new();
    let mut at = next;
    while bytes.len() > 0 {
        let first = at.checked_add(take(&mut bytes)?)?;
        let last = first.checked_add(take(&mut bytes)?)?;
        at = last.checked_add(1)?;
        ranges.push((first, last));
    }
    Some(ranges)
}

/// What either of the two covers at `next` and beyond.
pub(super) fn union(next: u64, one: &[Range], other: &[Range]) -> Vec<Range> {
    let mut all: Vec<_> = one.iter().chain(other).copied().collect();
    all.sort_unstable();
    let mut union: Vec<Range> = Vec::with_capacity(all.len());
    for (first, last) in all {
        if last < next {
            continue;
        }
        let first = first.max(next);
        match union.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => union.push((first, last)),
        }
    }
    union
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_thousand_gaps_of_records_in_flight_fit() {
        let ranges: Vec<Range> = (0..1_000).map(|n| (11 + n * 3, 12 + n * 3)).collect();
        let text = write(10, &ranges).expect("they fit");
        assert!(text.len() <= LIMIT);
        assert_eq!(read(10, &text), Some(ranges));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let ranges: Vec<Range> = (0..4_000).map(|n| (11 + n * 3, 12 + n * 3)).collect();
        assert_eq!(write(10, &ranges), None);
    }

    #[test]
    fn metadata_of_others_is_no_range_and_torn_metadata_is_a_fault() {
        assert_eq!(read(3, "a note of the operator"), Some(Vec::new()));
        assert_eq!(read(3, ""), Some(Vec::new()));
        for torn in ["linkspan1:gA", "linkspan1:AQ", "linkspan1:?"] {
            assert_eq!(read(3, torn), None, "{torn}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(next in 0_u64..1 << 40, steps in proptest::collection::vec((0_u64..1 << 20, 0_u64..1 << 20), 0..50)) {
            let mut at = next;
            let ranges: Vec<Range> = steps.into_iter().map(|(gap, length)| {
                let first = at + gap;
                at = first + length + 1;
                (first, first + length)
            }).collect();
            let text = write(next, &ranges).expect("few ranges fit");
            prop_assert_eq!(read(next, &text), Some(ranges));
        }

        #[test]
        fn a_union_covers_what_either_covers(
            next in 0_u64..60,
            one in proptest::collection::vec((0_u64..60, 0_u64..5), 0..8),
            other in proptest::collection::vec((0_u64..60, 0_u64..5), 0..8),
        ) {
            let ranges = |list: Vec<(u64, u64)>| list.into_iter().map(|(first, more)| (first, first + more)).collect::<Vec<_>>();
            let (one, other) = (ranges(one), ranges(other));
            let union = union(next, &one, &other);
            let covers = |ranges: &[Range], n: u64| ranges.iter().any(|(first, last)| (*first..=*last).contains(&n));
            for n in 0..70 {
                prop_assert_eq!(covers(&union, n), n >= next && (covers(&one, n) || covers(&other, n)));
            }
            for pair in union.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
        }
    }
}
