//! The annotated file that `linkspan init` writes: it runs as it is, and shows every key.

use super::describe::{Description, Key, Presence, prose};
use super::kind::Kind;
use super::sections::Sections;
use super::setting::Section;

const WIDTH: usize = 100;

const HEAD: &str = "linkspan.toml: the whole gateway. It runs as it is. A key that is commented out shows its default, or an example \
                    where it has none; docs/configuration.md explains each.";

/// One named table of the file. Where it `sets` nothing, it is commented out.
struct Shown {
    name: &'static str,
    about: &'static str,
    /// The keys that it sets, as TOML.
    set: &'static [(&'static str, &'static str)],
}

const SERVICES: &[Shown] = &[
    Shown {
        name: "text",
        about: "Reads the text of documents: PDF, office files, email, web pages and pictures (OCR).",
        set: &[
            ("task", r#""extract-text""#),
            ("options", r#"{ languages = ["eng"] }"#),
        ],
    },
    Shown {
        name: "identity",
        about: "Reads passports, identity cards and visas by their machine-readable zone, with every check digit.",
        set: &[("task", r#""proof-of-identity""#)],
    },
    Shown {
        name: "language",
        about: "Finds the language of a text.",
        set: &[("task", r#""detect-language""#)],
    },
    Shown {
        name: "mood",
        about: "Finds the mood of an English text. A text in another language is an error, never a guess.",
        set: &[("task", r#""sentiment""#)],
    },
];

const INTEGRATIONS: &[Shown] = &[
    Shown {
        name: "onboarding",
        about: "Pattern 1: the answer comes in the response. What takes longer than the deadline becomes a job (202), not an error.",
        set: &[
            ("pattern", r#""sync""#),
            ("steps", r#"["identity"]"#),
            ("deadline", r#""20s""#),
            ("overflow", r#""async""#),
        ],
    },
    Shown {
        name: "letters",
        about: "Pattern 2: the response is 202 and a job, once the document is on disk; GET /v1/jobs/{id}/result has the answer. The \
                second step takes the text that the first one read. Change pattern to \"sync\", and nothing else changes.",
        set: &[
            ("pattern", r#""async""#),
            ("steps", r#"["text", "language"]"#),
        ],
    },
    Shown {
        name: "reviews",
        about: "Both steps take the request's own text: the body is {\"text\": \"…\"} or a text file.",
        set: &[
            ("pattern", r#""async""#),
            ("steps", r#"["language", "mood"]"#),
        ],
    },
    Shown {
        name: "feedback",
        about: "Pattern 3: records come in by a Kinesis stream, here one of the gateway's own. Whatever writes to Kinesis writes to it, with \
                the gateway's address as its endpoint and a key of linkspan keys add NAME --sigv4.",
        set: &[
            ("pattern", r#""stream-in""#),
            ("source", r#"{ kinesis = "feedback" }"#),
            ("steps", r#"["language", "mood"]"#),
        ],
    },
];

const CLUSTERS: &[Shown] = &[
    Shown {
        name: "estate",
        about: "A Kafka cluster, for sources, channels and replications.",
        set: &[],
    },
    Shown {
        name: "cloud",
        about: "Another one.",
        set: &[],
    },
];

const REPLICATIONS: &[Shown] = &[Shown {
    name: "contracts",
    about: "Topics of one cluster, copied to another exactly once.",
    set: &[],
}];

/// A file that is valid, has no warning, and explains itself.
#[must_use]
pub fn annotated_example() -> String {
    let mut file = String::new();
    comment(&mut file, HEAD);
    for key in Sections::describe().keys {
        match &key.kind {
            Kind::Tables(description) => {
                let shown = match key.name {
                    "service" => SERVICES,
                    "integration" => INTEGRATIONS,
                    "kafka" => CLUSTERS,
                    _ => REPLICATIONS,
                };
                named_tables(&mut file, key.name, shown, description);
            }
            Kind::Table(description) => {
                file.push('\n');
                comment(&mut file, &prose(description.about));
                let off = match key.presence {
                    Presence::Optional => "#",
                    Presence::Default(_) | Presence::Required => "",
                };
                file.push_str(&format!("{off}[{}]\n", key.name));
                for key in &description.keys {
                    explained(&mut file, key, None);
                }
            }
            _ => {}
        }
    }
    file
}

fn named_tables(file: &mut String, section: &str, tables: &[Shown], description: &Description) {
    for (nth, shown) in tables.iter().enumerate() {
        file.push('\n');
        comment(file, shown.about);
        let off = if shown.set.is_empty() { "#" } else { "" };
        file.push_str(&format!("{off}[{section}.{}]\n", shown.name));
        for key in &description.keys {
            let required = matches!(key.presence, Presence::Required);
            if nth > 0
                && shown.set.is_empty()
                && let Some(example) = key.example.filter(|_| required)
            {
                file.push_str(&format!("#{} = {example}\n", key.name));
            }
            let value = shown
                .set
                .iter()
                .find(|(name, _)| *name == key.name)
                .map(|(_, value)| *value);
            match value {
                // The first of each kind explains every key.
                _ if nth == 0 => explained(file, key, value),
                Some(value) => file.push_str(&format!("{} = {value}\n", key.name)),
                None => {}
            }
        }
    }
}

fn explained(file: &mut String, key: &Key, value: Option<&str>) {
    let mut doc = prose(key.doc);
    if let Kind::Choice(words) = &key.kind
        && words.len() > 1
    {
        doc.push_str(&format!(" One of: {}.", key.kind.name().replace('`', "")));
    }
    comment(file, &doc.replace('`', ""));
    let default = key.default_toml();
    match (value, key.example.or(default.as_deref())) {
        (Some(value), _) => file.push_str(&format!("{} = {value}\n", key.name)),
        (None, Some(value)) => file.push_str(&format!("#{} = {value}\n", key.name)),
        (None, None) => {}
    }
}

/// A comment, its words wrapped.
fn comment(file: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count() + 1;
        if width == 0 || width + length > WIDTH {
            file.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        file.push(' ');
        file.push_str(word);
        width += length;
    }
    file.push('\n');
}
