//! The configuration reference, as Markdown.

use super::describe::{Description, Key, Presence, prose};
use super::kind::Kind;
use super::sections::Sections;
use super::setting::Section;

const HEAD: &str = r#"# Configuration

<!-- Written by linkspan from its own declarations; a test compares the two. Do not edit. -->

`linkspan.toml` is the whole gateway. `linkspan init` writes an annotated one, `linkspan check` validates one and lists every fault
with its line, and [linkspan.schema.json](linkspan.schema.json) lets an editor do so while you type.

- A key that is not listed here is an error.
- A **duration** is whole numbers with units: `"250ms"`, `"30s"`, `"1h30m"`, `"7d"`. The units are ms, s, m, h and d.
- A **size** is a whole number with a unit: `"64 KiB"`, `"20 MB"`. KiB, MiB, GiB and TiB are powers of 1024; KB, MB, GB and TB of 1000.
- A **path** is relative to the folder of the file.
- A **name** of a service or an integration has 1 to 63 of a-z, 0-9 and -, with a letter or a digit first.
- A string may be a **reference** instead: `"${env:NAME}"` is the value of an environment variable, `"${file:PATH}"` the content of a
  file without the line ending at its end. Secrets are never written in the file itself.
- The gateway listens on loopback only, unless it has authentication and TLS (its own, or a proxy's that `tls_terminated_by_proxy`
  vouches for).
"#;

/// The reference of every section and key.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for key in Sections::describe().keys {
        section(&mut page, key.name, "##", &key.kind);
    }
    page
}

fn section(page: &mut String, path: &str, level: &str, kind: &Kind) {
    let description = match kind {
        Kind::Table(description) | Kind::Tables(description) => description,
        Kind::List(items) => match &**items {
            Kind::Forms(forms, common) => {
                return forms_of(page, path, level, "every item", (forms, common));
            }
            _ => return,
        },
        Kind::Forms(forms, common) => {
            return forms_of(page, path, level, "whatever the form", (forms, common));
        }
        _ => return,
    };
    let path = match kind {
        Kind::Tables(_) => format!("{path}.NAME"),
        _ => path.to_owned(),
    };
    page.push_str(&format!(
        "\n{level} `[{path}]`\n\n{}\n\n",
        prose(description.about)
    ));
    rows(page, description);
    tables_inside(page, &path, level, description);
}

/// Tables that have several forms, and what all of them have.
fn forms_of(
    page: &mut String,
    path: &str,
    level: &str,
    whatever: &str,
    (forms, common): (&[Description], &Description),
) {
    for form in forms {
        let kind = form.keys.first().map_or("", |key| key.name);
        let path = format!("{path}.{kind}");
        page.push_str(&format!("\n{level} `{path}`\n\n{}\n\n", prose(form.about)));
        rows(page, form);
        tables_inside(page, &path, level, form);
    }
    page.push_str(&format!(
        "\n{level} `{path}`, {whatever}\n\n{}\n\n",
        prose(common.about)
    ));
    rows(page, common);
}

fn rows(page: &mut String, description: &Description) {
    page.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in &description.keys {
        page.push_str(&row(key));
    }
}

fn tables_inside(page: &mut String, path: &str, level: &str, description: &Description) {
    for key in &description.keys {
        section(
            page,
            &format!("{path}.{}", key.name),
            &format!("{level}#"),
            &key.kind,
        );
    }
}

fn row(key: &Key) -> String {
    let mut value = key.kind.name();
    if let Some((least, most)) = &key.limits {
        value.push_str(&format!(", {} to {}", least.plain(), most.plain()));
    }
    let default = match (&key.presence, key.default_toml()) {
        (_, Some(default)) => format!("`{default}`"),
        (Presence::Required, None) => "required".to_owned(),
        (_, None) => "none".to_owned(),
    };
    let mut meaning = prose(key.doc);
    if let Kind::Choice(words) = &key.kind {
        for word in words.iter().filter(|word| !word.doc.is_empty()) {
            meaning.push_str(&format!(" `\"{}\"`: {}", word.name, word.doc));
        }
    }
    let cells =
        [format!("`{}`", key.name), value, default, meaning].map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}
