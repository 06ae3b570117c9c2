//! The files that come along, with what a right answer says of each. All people in them are invented.

use linkspan_model::ResultDocument;
use serde_json::Value;

/// A file of the demo.
pub(super) struct Specimen {
    /// Its name.
    pub(super) file: &'static str,
    /// Its media type.
    pub(super) media_type: &'static str,
    /// Its content.
    pub(super) bytes: &'static [u8],
    /// The synchronous integration that it goes through; the asynchronous one is called the same with `-later`.
    pub(super) integration: &'static str,
    /// What a right answer holds.
    expected: &'static [Expected],
}

/// One thing that a right answer holds.
enum Expected {
    /// At this JSON pointer below `answers` stands this text.
    Is(&'static str, &'static str),
    /// The text at this pointer holds these words, whatever the white space.
    Holds(&'static str, &'static [&'static str]),
}

use Expected::{Holds, Is};

macro_rules! fixture {
    ($path:expr) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/",
            $path
        ))
    };
}

const BILL: &[Expected] = &[Holds(
    "/text/text",
    &[
        "Nordhaven Energy",
        "Ingrid Solheim-Achterberg",
        "14 Marlow Quay",
        "25 February 2026",
        "158.00",
    ],
)];

const PASSPORT: &[Expected] = &[
    Is("/identity/document", "passport"),
    Is("/identity/verdict", "accepted"),
    Is("/identity/fields/document-number/value", "UT4829173"),
    Is("/identity/fields/surname/value", "VELLAMAA"),
    Is("/identity/fields/given-names/value", "ILSE MARGARETE"),
    Is("/identity/fields/birth-date/value", "1988-03-14"),
];

const CONTRACT: &[Expected] = &[Holds(
    "/text/text",
    &[
        "Service contract 2026-0417",
        "Ellery Marine Services BV",
        "EUR 18,400.00",
        "9. Law and courts",
        "Runa Halden",
    ],
)];

const REPORT: &[Expected] = &[Holds(
    "/text/text",
    &[
        "Mooring inspection, first quarter",
        "Fender 7 at Port Ellery has lost its chain.",
        "7,980.50",
        "Confidential between the parties",
    ],
)];

const MESSAGE: &[Expected] = &[Holds(
    "/text/text",
    &[
        "Prüfbericht für das erste Quartal: Poller in Skarhavn",
        "€7,980.50",
        "Grüße aus Port Ellery",
    ],
)];

macro_rules! review {
    ($file:literal, $language:literal) => {
        Specimen {
            file: $file,
            media_type: "text/plain; charset=utf-8",
            bytes: fixture!(concat!("reviews/", $file)),
            integration: "reviews",
            expected: &[Is("/language/language", $language)],
        }
    };
    ($file:literal, $language:literal, $mood:literal) => {
        Specimen {
            file: $file,
            media_type: "text/plain; charset=utf-8",
            bytes: fixture!(concat!("reviews/", $file)),
            integration: "feedback",
            expected: &[
                Is("/language/language", $language),
                Is("/mood/label", $mood),
            ],
        }
    };
}

/// The files, in the order in which they are shown.
pub(super) const SPECIMENS: &[Specimen] = &[
    Specimen {
        file: "passport.png",
        media_type: "image/png",
        bytes: fixture!("identity/passport.png"),
        integration: "onboarding",
        expected: PASSPORT,
    },
    Specimen {
        file: "bill-scan.jpg",
        media_type: "image/jpeg",
        bytes: fixture!("bills/bill-scan.jpg"),
        integration: "documents",
        expected: BILL,
    },
    Specimen {
        file: "bill-photo-rotated-90.jpg",
        media_type: "image/jpeg",
        bytes: fixture!("bills/bill-photo-rotated-90.jpg"),
        integration: "documents",
        expected: BILL,
    },
    Specimen {
        file: "contract.pdf",
        media_type: "application/pdf",
        bytes: fixture!("pdf/contract.pdf"),
        integration: "documents",
        expected: CONTRACT,
    },
    Specimen {
        file: "report.docx",
        media_type: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        bytes: fixture!("office/report.docx"),
        integration: "documents",
        expected: REPORT,
    },
    Specimen {
        file: "message.eml",
        media_type: "message/rfc822",
        bytes: fixture!("office/message.eml"),
        integration: "documents",
        expected: MESSAGE,
    },
    review!("en-crossing-wonderful.txt", "en", "positive"),
    review!("en-ferry-terrible.txt", "en", "negative"),
    review!("de-ueberfahrt.txt", "de"),
    review!("fr-traversee.txt", "fr"),
    review!("ja-funatabi.txt", "ja"),
    review!("ar-rihla.txt", "ar"),
];

impl Specimen {
    /// What is wrong with a result, if anything is.
    pub(super) fn fault(&self, result: &ResultDocument) -> Option<String> {
        let answers = Value::Object(result.answers.clone());
        let text = |pointer: &str| answers.pointer(pointer).and_then(Value::as_str);
        self.expected.iter().find_map(|expected| match expected {
            Is(pointer, right) => match text(pointer) {
                Some(said) if said == *right => None,
                said => Some(format!("{pointer} should be {right:?} and is {said:?}")),
            },
            Holds(pointer, phrases) => {
                let said = one_line(text(pointer).unwrap_or_default());
                phrases
                    .iter()
                    .find(|phrase| !said.contains(&one_line(phrase)))
                    .map(|phrase| format!("{pointer} should hold {phrase:?}"))
            }
        })
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
