//! The zone's dates: six digits, the century left out.

use jiff::civil::Date;

/// A birth date: the latest year that is not after `as_of`. Unknown parts (`<<`, ICAO 9303 part 3, 4.8) make none.
pub(super) fn birth(digits: &str, as_of: Date) -> Option<Date> {
    candidates(digits)
        .into_iter()
        .rev()
        .find(|date| *date <= as_of)
}

/// An expiry date: the year nearest to `as_of`, at most 30 years ahead, because no document is issued for longer.
pub(super) fn expiry(digits: &str, as_of: Date) -> Option<Date> {
    candidates(digits)
        .into_iter()
        .filter(|date| date.year() <= as_of.year() + 30)
        .max()
}

/// The date in the years 1900 to 2199, earliest first.
fn candidates(digits: &str) -> Vec<Date> {
    let number = |range| {
        digits
            .get(range)
            .and_then(|part: &str| part.parse::<i16>().ok())
    };
    let (Some(year), Some(month), Some(day)) = (number(0..2), number(2..4), number(4..6)) else {
        return Vec::new();
    };
    let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else {
        return Vec::new();
    };
    [1900, 2000, 2100]
        .into_iter()
        .filter_map(|century| Date::new(century + year, month, day).ok())
        .collect()
}
