//! Machine-readable zones: their formats (ICAO 9303 parts 3 to 7, 8th edition), their fields and check digits.

use super::repair;

/// A format of machine-readable zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// Passports: two lines of 44 (part 4).
    Td3,
    /// Cards: three lines of 30 (part 5).
    Td1,
    /// Cards: two lines of 36 (part 6).
    Td2,
    /// Visas: two lines of 44 (part 7).
    MrvA,
    /// Visas: two lines of 36 (part 7).
    MrvB,
    /// The French card issued until 2021: two lines of 36, of its own order.
    FrenchCard,
}

/// What characters a place may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// A to Z and the filler.
    Letters,
    /// 0 to 9 and the filler.
    Digits,
    /// All of them.
    Any,
}

/// A field's place: line, first column, end column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) usize, pub(super) usize, pub(super) usize);

/// One field of a format.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpec {
    /// The field's name in the answer.
    pub(super) name: &'static str,
    /// Its place.
    pub(super) span: Span,
    /// Its characters.
    pub(super) alphabet: Alphabet,
}

/// One check digit of a format.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckSpec {
    /// The field that it guards, or `composite`.
    pub(super) guards: &'static str,
    /// What it is computed over.
    pub(super) over: &'static [Span],
    /// Where it stands: line, column.
    pub(super) at: (usize, usize),
    /// Whether a filler may stand in its place when the field is empty (TD3's personal number).
    pub(super) may_be_blank: bool,
}

/// A zone that was read, each line of its format's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    /// Its format.
    pub(super) format: Format,
    /// Its lines.
    pub(super) lines: Vec<String>,
}

/// The outcome of one check digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// What it guards.
    pub(super) guards: &'static str,
    /// Whether it is right.
    pub(super) passed: bool,
    /// The digit that stands there.
    pub(super) printed: char,
    /// The digit that should.
    pub(super) computed: char,
}

/// The check digit of a string: weights 7, 3, 1 over the values of its characters, modulo 10 (part 3, 4.9).
pub(super) fn check_digit(text: impl Iterator<Item = char>) -> char {
    let sum: u32 = text
        .zip([7, 3, 1].into_iter().cycle())
        .map(|(letter, weight)| letter.to_digit(36).unwrap_or(0) * weight)
        .sum();
    char::from_digit(sum % 10, 10).unwrap_or('0')
}

impl Format {
    /// Every format.
    pub(super) const ALL: [Self; 6] = [
        Self::Td3,
        Self::Td1,
        Self::Td2,
        Self::MrvA,
        Self::MrvB,
        Self::FrenchCard,
    ];

    /// Lines and characters a line.
    pub(super) const fn size(self) -> (usize, usize) {
        match self {
            Self::Td3 | Self::MrvA => (2, 44),
            Self::Td1 => (3, 30),
            Self::Td2 | Self::MrvB | Self::FrenchCard => (2, 36),
        }
    }

    /// Whether a first line can begin this format.
    pub(super) fn begins(self, line: &str) -> bool {
        let first = line.chars().next().unwrap_or('<');
        match self {
            Self::Td3 => first == 'P',
            Self::MrvA | Self::MrvB => first == 'V',
            Self::FrenchCard => line.starts_with("IDFRA"),
            Self::Td2 => matches!(first, 'I' | 'A' | 'C') && !line.starts_with("IDFRA"),
            Self::Td1 => matches!(first, 'I' | 'A' | 'C'),
        }
    }

    /// The fields.
    pub(super) const fn fields(self) -> &'static [FieldSpec] {
        match self {
            Self::Td3 => TD3,
            Self::Td1 => TD1,
            Self::Td2 => TD2,
            Self::MrvA => MRV_A,
            Self::MrvB => MRV_B,
            Self::FrenchCard => FRENCH,
        }
    }

    /// The check digits.
    pub(super) const fn checks(self) -> &'static [CheckSpec] {
        match self {
            Self::Td3 => TD3_CHECKS,
            Self::Td1 => TD1_CHECKS,
            Self::Td2 => TD2_CHECKS,
            Self::MrvA | Self::MrvB => VISA_CHECKS,
            Self::FrenchCard => FRENCH_CHECKS,
        }
    }

    /// Makes a zone of lines that have the format's size, with characters put right where a place's alphabet decides.
    pub(super) fn zone(self, lines: &[String]) -> Option<Zone> {
        let (count, width) = self.size();
        if lines.len() != count
            || lines
                .iter()
                .any(|line| line.len() != width || !line.is_ascii())
        {
            return None;
        }
        let mut lines: Vec<Vec<char>> = lines.iter().map(|line| line.chars().collect()).collect();
        for field in self.fields() {
            let Span(line, start, end) = field.span;
            for letter in &mut lines[line][start..end] {
                *letter = repair::as_alphabet(*letter, field.alphabet);
            }
        }
        for check in self.checks() {
            let (line, column) = check.at;
            let digit = &mut lines[line][column];
            *digit = repair::as_alphabet(*digit, Alphabet::Digits);
        }
        let lines: Vec<String> = lines.into_iter().map(String::from_iter).collect();
        self.begins(&lines[0]).then_some(Zone {
            format: self,
            lines,
        })
    }
}

impl Zone {
    /// A field's characters as they stand, fillers included; empty where the format has no such field.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.format
            .fields()
            .iter()
            .find(|field| field.name == name)
            .map_or("", |field| self.at(field.span))
    }

    /// The document number; one longer than nine characters goes on in the optional data (TD1 and TD2, part 5, 4.2.2.1).
    pub(super) fn document_number(&self) -> String {
        let number = match self.long_number() {
            Some((number, _)) => number,
            None => self.raw("document-number").to_owned(),
        };
        number.trim_end_matches('<').to_owned()
    }

    /// Surname and given names, by the double filler between them.
    pub(super) fn names(&self) -> (String, String) {
        let words = |text: &str| {
            text.split('<')
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        if self.format == Format::FrenchCard {
            return (words(self.raw("surname")), words(self.raw("given-names")));
        }
        match self.raw("name").split_once("<<") {
            Some((surname, given)) => (words(surname), words(given)),
            None => (words(self.raw("name")), String::new()),
        }
    }

    /// Every check digit of the format, recomputed.
    pub(super) fn checked(&self) -> Vec<Checked> {
        self.format
            .checks()
            .iter()
            .map(|check| {
                let text: String = check.over.iter().map(|span| self.at(*span)).collect();
                let printed = self
                    .at(Span(check.at.0, check.at.1, check.at.1 + 1))
                    .chars()
                    .next()
                    .unwrap_or('<');
                let mut computed = check_digit(text.chars());
                let mut printed = printed;
                if check.guards == "document-number"
                    && let Some((number, digit)) = self.long_number()
                {
                    computed = check_digit(number.chars());
                    printed = digit;
                }
                let blank = check.may_be_blank
                    && printed == '<'
                    && text.chars().all(|letter| letter == '<');
                Checked {
                    guards: check.guards,
                    passed: printed == computed || blank,
                    printed,
                    computed,
                }
            })
            .collect()
    }

    /// How many check digits are right.
    pub(super) fn right(&self) -> usize {
        self.checked().iter().filter(|check| check.passed).count()
    }

    /// Whether every check digit is right.
    pub(super) fn all_right(&self) -> bool {
        self.right() == self.format.checks().len()
    }

    fn at(&self, Span(line, start, end): Span) -> &str {
        self.lines
            .get(line)
            .and_then(|line| line.get(start..end))
            .unwrap_or("")
    }

    /// A number that goes on in the optional data, with its check digit.
    fn long_number(&self) -> Option<(String, char)> {
        let (digit, more) = match self.format {
            Format::Td1 => (Span(0, 14, 15), Span(0, 15, 30)),
            Format::Td2 => (Span(1, 9, 10), Span(1, 28, 35)),
            _ => return None,
        };
        if self.at(digit) != "<" {
            return None;
        }
        let more = self.at(more).split('<').next().unwrap_or("");
        let digit = more.chars().last().filter(char::is_ascii_digit)?;
        Some((
            format!("{}{}", self.raw("document-number"), &more[..more.len() - 1]),
            digit,
        ))
    }
}

const fn field(
    name: &'static str,
    line: usize,
    start: usize,
    end: usize,
    alphabet: Alphabet,
) -> FieldSpec {
    FieldSpec {
        name,
        span: Span(line, start, end),
        alphabet,
    }
}

const fn check(
    guards: &'static str,
    over: &'static [Span],
    line: usize,
    column: usize,
) -> CheckSpec {
    CheckSpec {
        guards,
        over,
        at: (line, column),
        may_be_blank: false,
    }
}

macro_rules! two_lines {
    ($names_end:literal, $optional:literal, $optional_end:literal) => {
        &[
            field("document-code", 0, 0, 2, Alphabet::Letters),
            field("issuer", 0, 2, 5, Alphabet::Letters),
            field("name", 0, 5, $names_end, Alphabet::Letters),
            field("document-number", 1, 0, 9, Alphabet::Any),
            field("nationality", 1, 10, 13, Alphabet::Letters),
            field("birth-date", 1, 13, 19, Alphabet::Digits),
            field("sex", 1, 20, 21, Alphabet::Letters),
            field("expiry-date", 1, 21, 27, Alphabet::Digits),
            field($optional, 1, 28, $optional_end, Alphabet::Any),
        ]
    };
}

const TD3: &[FieldSpec] = two_lines!(44, "personal-number", 42);
const TD2: &[FieldSpec] = two_lines!(36, "optional-data", 35);
const MRV_A: &[FieldSpec] = two_lines!(44, "optional-data", 44);
const MRV_B: &[FieldSpec] = two_lines!(36, "optional-data", 36);
const TD1: &[FieldSpec] = &[
    field("document-code", 0, 0, 2, Alphabet::Letters),
    field("issuer", 0, 2, 5, Alphabet::Letters),
    field("document-number", 0, 5, 14, Alphabet::Any),
    field("optional-data", 0, 15, 30, Alphabet::Any),
    field("birth-date", 1, 0, 6, Alphabet::Digits),
    field("sex", 1, 7, 8, Alphabet::Letters),
    field("expiry-date", 1, 8, 14, Alphabet::Digits),
    field("nationality", 1, 15, 18, Alphabet::Letters),
    field("optional-data-2", 1, 18, 29, Alphabet::Any),
    field("name", 2, 0, 30, Alphabet::Letters),
];
const FRENCH: &[FieldSpec] = &[
    field("document-code", 0, 0, 2, Alphabet::Letters),
    field("issuer", 0, 2, 5, Alphabet::Letters),
    field("surname", 0, 5, 30, Alphabet::Letters),
    field("optional-data", 0, 30, 36, Alphabet::Any),
    field("document-number", 1, 0, 12, Alphabet::Any),
    field("given-names", 1, 13, 27, Alphabet::Letters),
    field("birth-date", 1, 27, 33, Alphabet::Digits),
    field("sex", 1, 34, 35, Alphabet::Letters),
];

const VISA_CHECKS: &[CheckSpec] = &[
    check("document-number", &[Span(1, 0, 9)], 1, 9),
    check("birth-date", &[Span(1, 13, 19)], 1, 19),
    check("expiry-date", &[Span(1, 21, 27)], 1, 27),
];
const TD3_CHECKS: &[CheckSpec] = &[
    VISA_CHECKS[0],
    VISA_CHECKS[1],
    VISA_CHECKS[2],
    CheckSpec {
        guards: "personal-number",
        over: &[Span(1, 28, 42)],
        at: (1, 42),
        may_be_blank: true,
    },
    check(
        "composite",
        &[Span(1, 0, 10), Span(1, 13, 20), Span(1, 21, 43)],
        1,
        43,
    ),
];
const TD2_CHECKS: &[CheckSpec] = &[
    VISA_CHECKS[0],
    VISA_CHECKS[1],
    VISA_CHECKS[2],
    check(
        "composite",
        &[Span(1, 0, 10), Span(1, 13, 20), Span(1, 21, 35)],
        1,
        35,
    ),
];
const TD1_CHECKS: &[CheckSpec] = &[
    check("document-number", &[Span(0, 5, 14)], 0, 14),
    check("birth-date", &[Span(1, 0, 6)], 1, 6),
    check("expiry-date", &[Span(1, 8, 14)], 1, 14),
    check(
        "composite",
        &[
            Span(0, 5, 30),
            Span(1, 0, 7),
            Span(1, 8, 15),
            Span(1, 18, 29),
        ],
        1,
        29,
    ),
];
const FRENCH_CHECKS: &[CheckSpec] = &[
    check("document-number", &[Span(1, 0, 12)], 1, 12),
    check("birth-date", &[Span(1, 27, 33)], 1, 33),
    check("composite", &[Span(0, 0, 36), Span(1, 0, 35)], 1, 35),
];
