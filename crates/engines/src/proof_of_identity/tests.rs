//! Tests; those that read pictures need the packages tesseract-ocr and tesseract-ocr-eng.

use linkspan_model::answer::{Check, DocumentKind, ProofOfIdentity, Verdict};
use serde_json::json;

use super::zone::{Format, Zone, check_digit};
use super::*;

/// ICAO's own specimens (9303 parts 4 to 7), and a French card's.
const SPECIMENS: [(Format, &[&str]); 6] = [
    (
        Format::Td3,
        &[
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
        ],
    ),
    (
        Format::Td1,
        &[
            "I<UTOD231458907<<<<<<<<<<<<<<<",
            "7408122F1204159UTO<<<<<<<<<<<6",
            "ERIKSSON<<ANNA<MARIA<<<<<<<<<<",
        ],
    ),
    (
        Format::Td2,
        &[
            "I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<",
            "D231458907UTO7408122F1204159<<<<<<<6",
        ],
    ),
    (
        Format::MrvA,
        &[
            "V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L8988901C4XXX4009078F96121096ZE184226B<<<<<<",
        ],
    ),
    (
        Format::MrvB,
        &[
            "V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<",
            "L8988901C4XXX4009078F9612109<<<<<<<<",
        ],
    ),
    (
        Format::FrenchCard,
        &[
            "IDFRABERTHIER<<<<<<<<<<<<<<<<<<<<<<<",
            "8806923102858CORINNE<<<<<<<6512068F6",
        ],
    ),
];

fn zone(format: Format, lines: &[&str]) -> Option<Zone> {
    format.zone(
        &lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>(),
    )
}

fn perform(file: &str, claim: Option<&Value>, as_of: &str) -> Result<ProofOfIdentity, EngineError> {
    let path = format!("{}/../../fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut params = Map::new();
    params.insert("as-of".to_owned(), as_of.into());
    let document = Document {
        bytes: &bytes,
        media_type: None,
        file_name: None,
    };
    let work = Work {
        input: Input::Document(document),
        options: &Map::new(),
        params: &params,
        claim,
    };
    match IdentityByZone::new().perform(&work)? {
        Answer::ProofOfIdentity(answer) => Ok(answer),
        other => panic!("another task's answer: {other:?}"),
    }
}

fn read(file: &str) -> ProofOfIdentity {
    perform(file, None, "2026-07-31").unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn check<'a>(answer: &'a ProofOfIdentity, name: &str) -> &'a Check {
    answer
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("no check {name}: {:?}", answer.checks))
}

#[test]
fn every_specimens_check_digits_are_right_and_every_wrong_character_is_noticed() {
    for (format, lines) in SPECIMENS {
        let right = zone(format, lines).unwrap_or_else(|| panic!("{format:?}"));
        assert!(right.all_right(), "{format:?}: {:?}", right.checked());
        for spec in format.checks() {
            let (line, column) = spec.at;
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            let digit = lines[line].as_bytes()[column];
            let other = if digit == b'9' { "0" } else { "9" };
            lines[line].replace_range(column..=column, other);
            let wrong = format.zone(&lines).unwrap();
            assert!(!wrong.all_right(), "{format:?} {}", spec.guards);
        }
    }
}

#[test]
fn the_specimens_of_other_formats_are_not_taken_for_this_one() {
    for (format, lines) in SPECIMENS {
        for other in Format::ALL.into_iter().filter(|other| *other != format) {
            assert!(
                zone(other, lines).is_none_or(|zone| !zone.all_right()),
                "{format:?} as {other:?}"
            );
        }
    }
}

#[test]
fn names_come_apart_at_the_double_filler() {
    let (_, lines) = SPECIMENS[0];
    assert_eq!(
        zone(Format::Td3, lines).unwrap().names(),
        ("ERIKSSON".to_owned(), "ANNA MARIA".to_owned())
    );
    let (_, lines) = SPECIMENS[5];
    assert_eq!(
        zone(Format::FrenchCard, lines).unwrap().names(),
        ("BERTHIER".to_owned(), "CORINNE".to_owned())
    );
}

#[test]
fn a_number_longer_than_nine_characters_goes_on_in_the_optional_data() {
    // ICAO 9303 part 5, 4.2.2.1, note j.
    let digit = check_digit("D23145890734".chars());
    let first = format!("I<UTOD23145890<734{digit}<<<<<<<<<<<");
    let long = zone(
        Format::Td1,
        &[
            &first,
            "3407127M9507122UTO<<<<<<<<<<<2",
            "STEVENSON<<PETER<JOHN<<<<<<<<<",
        ],
    )
    .unwrap();
    assert_eq!(long.document_number(), "D23145890734");
    assert!(
        long.checked()
            .iter()
            .any(|check| check.guards == "document-number" && check.passed),
        "{:?}",
        long.checked()
    );
}

#[test]
fn letters_in_dates_and_digits_in_names_are_put_right_and_numbers_left_alone() {
    let confused = [
        "P<UT0ERIKSS0N<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
        "L898902C36UT074O8I22F12O4I59ZE184226B<<<<<1O",
    ];
    let repaired = zone(Format::Td3, &confused).unwrap();
    assert_eq!(repaired.lines, SPECIMENS[0].1);
    let number = [
        "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
        "L8989O2C36UTO7408122F1204159ZE184226B<<<<<10",
    ];
    assert!(!zone(Format::Td3, &number).unwrap().all_right());
}

#[test]
fn lost_and_doubled_fillers_are_given_back() {
    let right = SPECIMENS[0].1[1];
    for broken in [
        "L898902C36UTO7408122F1204159ZE184226B<<<10",
        "L898902C36UTO7408122F1204159ZE184226B<<<<<<<10",
    ] {
        assert!(
            repair::fitted(broken, 44).iter().any(|line| line == right),
            "{broken}"
        );
    }
    assert!(repair::fitted("SHORT", 44).is_empty());
    let (names, changed) = repair::trimmed_names("ERIKSSON<<ANNA<MARIA<<<<<K<<<KK", true);
    assert_eq!(
        (names.as_str(), changed),
        ("ERIKSSON<<ANNA<MARIA<<<<<<<<<<<", true)
    );
    let (names, changed) = repair::trimmed_names("ERIKSSON<<ANNA<K<MARIA<<<<<<<<<", true);
    assert_eq!(
        (names.as_str(), changed),
        ("ERIKSSON<<ANNA<K<MARIA<<<<<<<<<", false)
    );
}

#[test]
fn centuries_are_those_that_make_sense() {
    let as_of: Date = "2026-07-31".parse().unwrap();
    let birth = |digits| dates::birth(digits, as_of).map(|date| date.to_string());
    let expiry = |digits| dates::expiry(digits, as_of).map(|date| date.to_string());
    assert_eq!(birth("740812").as_deref(), Some("1974-08-12"));
    assert_eq!(birth("260731").as_deref(), Some("2026-07-31"));
    assert_eq!(birth("260801").as_deref(), Some("1926-08-01"));
    assert_eq!(birth("000229").as_deref(), Some("2000-02-29"));
    assert_eq!(birth("010229"), None);
    assert_eq!(birth("74<<<<"), None);
    assert_eq!(expiry("350101").as_deref(), Some("2035-01-01"));
    assert_eq!(expiry("990101").as_deref(), Some("1999-01-01"));
    assert_eq!(expiry("561231").as_deref(), Some("2056-12-31"));
}

#[test]
fn names_are_compared_as_people_write_them() {
    for (claimed, printed) in [
        ("Jörg Grünwäld", "GRUENWAELD JOERG"),
        ("Ilse M. Vellamaa", "VELLAMAA ILSE MARGARETE"),
        ("O’Neill, Siobhán", "ONEILL SIOBHAN"),
        ("ilse vellamaa", "VELLAMAA ILSE MARGARETE"),
    ] {
        let likeness = names::likeness(claimed, printed);
        assert!(likeness >= 0.85, "{claimed} and {printed}: {likeness}");
    }
    for (claimed, printed) in [
        ("Marta Sandström", "VELLAMAA ILSE MARGARETE"),
        ("Karl Vellamaa", "VELLAMAA ILSE MARGARETE"),
        ("", "VELLAMAA"),
    ] {
        let likeness = names::likeness(claimed, printed);
        assert!(likeness < 0.85, "{claimed} and {printed}: {likeness}");
    }
}

#[test]
fn fixtures_are_read_exactly_and_judged_rightly() {
    let path = format!("{}/../../fixtures/truth.json", env!("CARGO_MANIFEST_DIR"));
    let truth: Vec<Value> = serde_json::from_slice(
        &std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")),
    )
    .unwrap();
    let mut judged = 0;
    for entry in truth.iter().filter(|entry| entry["verdict"].is_string()) {
        let file = entry["file"].as_str().unwrap();
        let answer = read(file);
        let lines: Vec<&str> = answer
            .fields
            .get("mrz")
            .map(|field| field.value.lines().collect())
            .unwrap_or_default();
        assert_eq!(json!(lines), entry["mrz"], "{file}");
        assert_eq!(
            json!(answer.document),
            entry["fields"]["document"],
            "{file}"
        );
        assert_eq!(
            json!(answer.verdict),
            entry["verdict"],
            "{file}: {:?}",
            answer.reasons
        );
        assert_eq!(
            answer.reasons.is_empty(),
            answer.verdict == Verdict::Accepted,
            "{file}: {:?}",
            answer.reasons
        );
        for name in [
            "document-number",
            "surname",
            "given-names",
            "birth-date",
            "expiry-date",
            "nationality",
            "issuer",
        ] {
            let value = answer.fields.get(name).map(|field| field.value.as_str());
            assert_eq!(value, entry["fields"][name].as_str(), "{file}: {name}");
        }
        judged += 1;
    }
    assert!(judged >= 10, "only {judged} fixtures have a verdict");
}

#[test]
fn a_picture_without_a_zone_is_for_a_person_to_look_at() {
    for file in [
        "identity/id-card-td1-front.png",
        "images/blank.png",
        "images/tiny.png",
    ] {
        let answer = read(file);
        assert_eq!(answer.document, DocumentKind::Unknown, "{file}");
        assert_eq!(answer.verdict, Verdict::Review, "{file}");
        assert!(
            answer.reasons[0].contains("machine-readable zone"),
            "{file}: {:?}",
            answer.reasons
        );
    }
}

#[test]
fn a_claim_is_compared_with_the_document() {
    let file = "identity/passport.png";
    let judged = |claim: &Value| perform(file, Some(claim), "2026-07-31").unwrap();
    let right = judged(&json!({ "name": "Ilse Margarete Vellamaa", "birth-date": "1988-03-14" }));
    assert_eq!(right.verdict, Verdict::Accepted, "{:?}", right.reasons);
    assert!(check(&right, "claim-name").passed && check(&right, "claim-birth-date").passed);
    let other = judged(&json!({ "name": "Tobias Okonjo" }));
    assert_eq!(other.verdict, Verdict::Rejected);
    assert!(!check(&other, "claim-name").passed);
    let born = judged(&json!({ "birth-date": "1988-03-15" }));
    assert_eq!(born.verdict, Verdict::Rejected);
    let address = judged(&json!({ "address": "7 Ropewalk, Port Ellery" }));
    assert_eq!(address.verdict, Verdict::Review);
    assert!(
        check(&address, "claim-address")
            .detail
            .contains("Not checked")
    );
    let wrong = perform(file, Some(&json!({ "nome": "x" })), "2026-07-31").unwrap_err();
    assert_eq!(wrong.code, Code::InvalidParameter);
}

#[test]
fn the_day_of_the_check_decides_on_expiry() {
    let file = "identity/passport.png";
    assert_eq!(
        perform(file, None, "2034-09-21").unwrap().verdict,
        Verdict::Accepted
    );
    let late = perform(file, None, "2034-09-22").unwrap();
    assert_eq!(late.verdict, Verdict::Rejected);
    assert!(!check(&late, "expiry").passed);
    assert_eq!(
        perform(file, None, "tomorrow").unwrap_err().code,
        Code::InvalidParameter
    );
}

#[test]
fn a_scan_in_a_pdf_is_read_and_other_files_are_refused() {
    let scan = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/identity/passport-blurred.jpg"
    ))
    .unwrap();
    let picture = image::load_from_memory(&scan).unwrap();
    let pdf = pdf_of_jpeg(&scan, picture.width(), picture.height());
    let perform = |bytes: &[u8]| {
        IdentityByZone::new().perform(&Work {
            input: Input::Document(Document {
                bytes,
                media_type: None,
                file_name: None,
            }),
            options: &Map::new(),
            params: &Map::from_iter([("as-of".to_owned(), json!("2026-07-31"))]),
            claim: None,
        })
    };
    let Answer::ProofOfIdentity(answer) = perform(&pdf).unwrap() else {
        panic!("another task's answer")
    };
    assert_eq!(answer.document, DocumentKind::Passport);
    assert_eq!(answer.fields["document-number"].value, "UT4829173");
    let damaged = perform(b"%PDF-1.7").unwrap_err();
    assert_eq!(damaged.code, Code::UnreadableDocument);
    let other = perform(b"PK\x03\x04").unwrap_err();
    assert_eq!(other.code, Code::UnsupportedMediaType);
}

/// A PDF of one page that shows a JPEG, as scanners make them (ISO 32000-1, 7.5).
fn pdf_of_jpeg(jpeg: &[u8], width: u32, height: u32) -> Vec<u8> {
    // At 300 dots an inch.
    let (across, down) = (f64::from(width) * 0.24, f64::from(height) * 0.24);
    let content = format!("{across} 0 0 {down} 0 0 cm /Scan Do");
    let mut pdf = format!(
        "%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
         3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 {across} {down}]/Contents 4 0 R/Resources<</XObject<</Scan 5 0 R>>>>>>endobj\n\
         4 0 obj<</Length {}>>stream\n{content}\nendstream endobj\n\
         5 0 obj<</Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceRGB/BitsPerComponent 8\
         /Filter/DCTDecode/Length {}>>stream\n",
        content.len(),
        jpeg.len()
    )
    .into_bytes();
    pdf.extend_from_slice(jpeg);
    pdf.extend_from_slice(b"\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n");
    pdf
}

#[test]
fn unknown_options_are_named() {
    let options = json!({ "max_pixel": 3 });
    let error = Options::parse(options.as_object().unwrap()).unwrap_err();
    assert!(error.detail.contains("max_pixel"), "{error}");
}
