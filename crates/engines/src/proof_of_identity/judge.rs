//! From a zone to an answer: fields, checks, and a verdict with its reasons.

use std::collections::BTreeMap;

use jiff::civil::Date;
use linkspan_model::Code;
use linkspan_model::answer::{Check, DocumentKind, Field, ProofOfIdentity, Verdict};
use serde::Deserialize;
use serde_json::Value;

use super::search::{Found, Outcome};
use super::zone::{Checked, Format, Zone};
use super::{dates, names};
use crate::engine::EngineError;

/// A reading below this is not accepted without a person.
const SURE: f64 = 0.8;
/// Names at least so alike are the same, and below [`OTHER_NAME`] another person's.
const SAME_NAME: f64 = 0.85;
const OTHER_NAME: f64 = 0.6;

/// What the caller says of the document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Claim {
    name: Option<String>,
    #[serde(alias = "birth_date")]
    birth_date: Option<Date>,
    address: Option<Value>,
}

impl Claim {
    pub(super) fn parse(claim: &Value) -> Result<Self, EngineError> {
        serde_json::from_value(claim.clone()).map_err(|_| {
            // serde's own words could repeat what the caller wrote.
            EngineError::new(
                Code::InvalidParameter,
                "The claim must be an object with `name` (text), `birth-date` (YYYY-MM-DD) and `address`, each optional.",
            )
        })
    }
}

/// The answer for what was found.
pub(super) fn judge(outcome: &Outcome, as_of: Date, claim: Option<&Claim>) -> ProofOfIdentity {
    let found = match outcome {
        Outcome::Zone(found) => found,
        Outcome::Unreadable => {
            return unknown(
                "Lines like a machine-readable zone were found, but they could not be read.",
            );
        }
        Outcome::Nothing => return unknown("No machine-readable zone was found in the picture."),
    };
    let zone = &found.zone;
    let checked = zone.checked();
    let read = Read::new(found, &checked, as_of);
    let mut judgement = Judgement::default();
    judgement.check_digits(found, &checked);
    judgement.dates(&read, as_of);
    if let Some(claim) = claim {
        judgement.claim(&read, claim);
    }
    judgement.doubts(found, &read);
    let verdict = if judgement.rejected {
        Verdict::Rejected
    } else if judgement.reasons.is_empty() {
        Verdict::Accepted
    } else {
        Verdict::Review
    };
    ProofOfIdentity {
        document: kind(zone.format),
        fields: read.fields,
        checks: judgement.checks,
        verdict,
        reasons: judgement.reasons,
    }
}

fn unknown(reason: &str) -> ProofOfIdentity {
    ProofOfIdentity {
        document: DocumentKind::Unknown,
        fields: BTreeMap::new(),
        checks: Vec::new(),
        verdict: Verdict::Review,
        reasons: vec![reason.to_owned()],
    }
}

fn kind(format: Format) -> DocumentKind {
    match format {
        Format::Td3 => DocumentKind::Passport,
        Format::Td1 | Format::Td2 | Format::FrenchCard => DocumentKind::IdCard,
        Format::MrvA | Format::MrvB => DocumentKind::Visa,
    }
}

/// The fields as they were read.
struct Read {
    fields: BTreeMap<String, Field>,
    name: String,
    name_confidence: f64,
    birth: Option<Date>,
    expiry: Option<Date>,
}

impl Read {
    fn new(found: &Found, checked: &[Checked], as_of: Date) -> Self {
        let zone = &found.zone;
        let mut fields = BTreeMap::new();
        let (surname, given) = zone.names();
        let name = [surname.as_str(), given.as_str()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        let name_confidence = name_confidence(found, &surname);
        let birth = dates::birth(zone.raw("birth-date"), as_of);
        let expiry = dates::expiry(zone.raw("expiry-date"), as_of);
        let mut put = |name: &str, value: String, confidence: f64| {
            if !value.is_empty() {
                let confidence = (confidence.clamp(0.0, 1.0) * 1000.0).round() / 1000.0;
                fields.insert(
                    name.to_owned(),
                    Field {
                        value,
                        confidence,
                        source: "mrz".to_owned(),
                    },
                );
            }
        };
        for spec in zone.format.fields() {
            let raw = zone.raw(spec.name);
            let confidence = confidence(found, checked, spec.name, spec.span.0);
            let text = || raw.trim_end_matches('<').replace('<', " ");
            let value = match spec.name {
                "name" | "surname" | "given-names" => continue,
                "document-number" => zone.document_number(),
                "birth-date" => birth.map(|date| date.to_string()).unwrap_or_default(),
                "expiry-date" => expiry.map(|date| date.to_string()).unwrap_or_default(),
                "sex" if raw == "<" => "X".to_owned(),
                _ => text(),
            };
            put(spec.name, value, confidence);
        }
        put("surname", surname, name_confidence);
        put("given-names", given, name_confidence);
        put("name", name.clone(), name_confidence);
        // Tesseract's own word for a whole line of fillers says nothing; the zone is as sure as its least sure field.
        let weakest = fields
            .values()
            .map(|field| field.confidence)
            .fold(1.0, f64::min);
        fields.insert(
            "mrz".to_owned(),
            Field {
                value: zone.lines.join("\n"),
                confidence: weakest,
                source: "mrz".to_owned(),
            },
        );
        Self {
            fields,
            name,
            name_confidence,
            birth,
            expiry,
        }
    }
}

/// How sure a field is: by how the readings of its line agree and by its check digit. Tesseract's own confidence counts little, because
/// it measures how much a line looks like language.
fn confidence(found: &Found, checked: &[Checked], field: &str, line: usize) -> f64 {
    let read = line_confidence(found, line);
    let whole = checked
        .iter()
        .find(|check| check.guards == "composite")
        .is_none_or(|check| check.passed);
    match checked.iter().find(|check| check.guards == field) {
        Some(check) if check.passed && whole => 0.5 + read / 2.0,
        Some(check) if check.passed => 0.3 + read / 2.0,
        Some(_) => read.min(0.4),
        None => read,
    }
}

fn line_confidence(found: &Found, line: usize) -> f64 {
    let ocr = found.confidences.get(line).copied().unwrap_or(0.0);
    let agreement = found.agreements.get(line).copied().unwrap_or(0.0);
    0.85 * agreement + 0.15 * ocr
}

/// No check digit guards names: what counts is how often they were read in the same way.
fn name_confidence(found: &Found, surname: &str) -> f64 {
    let line = found
        .zone
        .format
        .fields()
        .iter()
        .find(|field| matches!(field.name, "name" | "surname"))
        .map_or(0, |field| field.span.0);
    let doubt = if surname.is_empty() || surname.chars().any(|letter| letter.is_ascii_digit()) {
        0.3
    } else {
        1.0
    };
    let repaired = if found.names_repaired { 0.8 } else { 1.0 };
    line_confidence(found, line) * doubt * repaired
}

#[derive(Default)]
struct Judgement {
    checks: Vec<Check>,
    reasons: Vec<String>,
    rejected: bool,
}

impl Judgement {
    fn put(&mut self, name: &str, passed: bool, detail: impl Into<String>) {
        self.checks.push(Check {
            name: name.to_owned(),
            passed,
            detail: detail.into(),
        });
    }

    fn check_digits(&mut self, found: &Found, checked: &[Checked]) {
        for check in checked {
            let detail = if check.passed {
                format!("The check digit {} is right.", check.printed)
            } else {
                format!(
                    "The check digit is {}, and the characters before it give {}.",
                    check.printed, check.computed
                )
            };
            self.put(
                &format!("mrz-{}-check-digit", check.guards),
                check.passed,
                detail,
            );
        }
        let wrong: Vec<&str> = checked
            .iter()
            .filter(|check| !check.passed)
            .map(|check| check.guards)
            .collect();
        if wrong.is_empty() {
            return;
        }
        // The composite digit alone can fail by a misread character of the optional data, which no other digit guards.
        let sure = found.readings >= 3
            && wrong.iter().any(|guards| *guards != "composite")
            && found.agreements.iter().all(|agreement| *agreement >= 0.9);
        self.rejected |= sure;
        self.reasons.push(if sure {
            format!("The zone was read clearly, and its check digits are wrong: {}.", wrong.join(", "))
        } else {
            format!("Check digits do not agree with what was read, perhaps because the picture is unclear: {}.", wrong.join(", "))
        });
    }

    fn dates(&mut self, read: &Read, as_of: Date) {
        let has_expiry = self
            .checks
            .iter()
            .any(|check| check.name == "mrz-expiry-date-check-digit");
        let valid = read.birth.is_some() && (read.expiry.is_some() || !has_expiry);
        self.put(
            "mrz-dates-valid",
            valid,
            if valid {
                "Every date is one of the calendar."
            } else {
                "A date of the zone is not one of the calendar, or is unknown."
            },
        );
        if !valid {
            self.reasons
                .push("A date of the zone is not one of the calendar, or is unknown.".to_owned());
        }
        let Some(expiry) = read.expiry else {
            if !has_expiry {
                self.reasons
                    .push("The zone of this kind of document has no expiry date.".to_owned());
            }
            return;
        };
        let current = expiry >= as_of;
        self.put(
            "expiry",
            current,
            format!("Valid until {expiry}, looked at on {as_of}."),
        );
        if !current {
            let read_right = self
                .checks
                .iter()
                .any(|check| check.name == "mrz-expiry-date-check-digit" && check.passed);
            self.rejected |= read_right;
            self.reasons
                .push(format!("The document expired on {expiry}."));
        }
    }

    fn claim(&mut self, read: &Read, claim: &Claim) {
        if let Some(name) = &claim.name {
            let likeness = names::likeness(name, &read.name);
            let same = likeness >= SAME_NAME;
            self.put("claim-name", same, format!("The claimed name and the document's are alike by {likeness:.2}; {SAME_NAME} is needed."));
            if likeness < OTHER_NAME && read.name_confidence >= SURE {
                self.rejected = true;
                self.reasons
                    .push("The claimed name is not the document's.".to_owned());
            } else if !same {
                self.reasons
                    .push("The claimed name is not surely the document's.".to_owned());
            }
        }
        if let Some(claimed) = claim.birth_date {
            let same = read.birth == Some(claimed);
            self.put(
                "claim-birth-date",
                same,
                if same {
                    "The claimed birth date is the document's."
                } else {
                    "The claimed birth date is not the document's."
                },
            );
            if !same {
                let read_right = self
                    .checks
                    .iter()
                    .any(|check| check.name == "mrz-birth-date-check-digit" && check.passed);
                self.rejected |= read_right;
                self.reasons
                    .push("The claimed birth date is not the document's.".to_owned());
            }
        }
        if claim.address.is_some() {
            self.put(
                "claim-address",
                false,
                "Not checked: a machine-readable zone holds no address.",
            );
            self.reasons.push(
                "The claimed address was not checked: a machine-readable zone holds no address."
                    .to_owned(),
            );
        }
    }

    fn doubts(&mut self, found: &Found, read: &Read) {
        if read.name_confidence < SURE {
            self.reasons
                .push("The names were not read surely, and no check digit guards them.".to_owned());
        }
        let lines = 0..found.zone.lines.len();
        if lines
            .into_iter()
            .any(|line| line_confidence(found, line) < 0.7)
        {
            self.reasons
                .push("Several readings of the zone differ.".to_owned());
        }
        if !country(&found.zone, "issuer")
            || (found.zone.format != Format::FrenchCard && !country(&found.zone, "nationality"))
        {
            self.reasons.push(
                "The issuer or the nationality is not a code of ICAO 9303 part 3.".to_owned(),
            );
        }
    }
}

/// Whether a field is a code of ICAO 9303 part 3, section 5 (Germany's is one letter).
fn country(zone: &Zone, field: &str) -> bool {
    let code = zone.raw(field).trim_end_matches('<');
    code == "D" || mrz::country_name(code).is_some()
}
