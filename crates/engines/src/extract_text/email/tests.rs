//! Messages, written out.

use linkspan_model::Code;

use crate::extract_text::testing::{read, text_of};

const HEADER: &str = "From: Anna Muster <anna@example.com>\r\nTo: =?utf-8?q?Piet_J=C3=A4nsen?= <piet@example.org>, info@example.net\r\nCc: cc@example.com\r\nDate: Tue, 5 Mar 2024 10:15:00 +0100\r\nSubject: =?iso-8859-1?Q?Gr=FC=DFe?=\r\nMIME-Version: 1.0\r\n";
const HEADER_TEXT: &str = "From: Anna Muster <anna@example.com>\nTo: Piet Jänsen <piet@example.org>, info@example.net\nCc: cc@example.com\nDate: Tue, 5 Mar 2024 10:15:00 +0100\nSubject: Grüße\n\n";

fn multipart(kind: &str, parts: &[&str]) -> String {
    let mut message = format!("{HEADER}Content-Type: multipart/{kind}; boundary=\"sep\"\r\n\r\n");
    for part in parts {
        message.push_str(&format!("--sep\r\n{part}\r\n"));
    }
    message + "--sep--\r\n"
}

#[test]
fn the_header_comes_first_and_then_the_text() {
    let message = format!(
        "{HEADER}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSch=C3=B6n,\r\nzwei Zeilen.\r\n"
    );
    let found = read(message.as_bytes()).unwrap();
    assert_eq!(found.text, format!("{HEADER_TEXT}Schön,\nzwei Zeilen."));
    assert_eq!(found.media_type, "message/rfc822");
}

#[test]
fn the_plain_alternative_is_preferred_and_html_is_read_without_it() {
    let plain = "Content-Type: text/plain\r\n\r\nPlain text";
    let html = "Content-Type: text/html\r\n\r\n<style>p{}</style><p>Rich <b>text</b></p>";
    let both = multipart("alternative", &[plain, html]);
    assert_eq!(
        text_of(both.as_bytes(), ""),
        format!("{HEADER_TEXT}Plain text")
    );
    let only_html = multipart("alternative", &[html]);
    assert_eq!(
        text_of(only_html.as_bytes(), ""),
        format!("{HEADER_TEXT}Rich text")
    );
}

#[test]
fn flowed_lines_are_joined() {
    let message = "From: a@example.com\nSubject: x\nContent-Type: text/plain; format=flowed\n\nOne sentence \nover lines.\n> quoted \n> too\n-- \nAnna\n";
    let text = text_of(message.as_bytes(), "");
    assert!(
        text.ends_with("One sentence over lines.\n> quoted too\n--\nAnna"),
        "{text}"
    );
}

#[test]
fn attachments_are_further_pages() {
    let csv = "Content-Type: text/csv; name=\"list.csv\"\r\nContent-Disposition: attachment; filename=\"list.csv\"\r\n\r\na;b\r\n1;2\r\n";
    let odd = "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\nAQIDAAAAAAD/AAAAAA==\r\n";
    let signature = "Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n";
    let message = multipart(
        "mixed",
        &[
            "Content-Type: text/plain\r\n\r\nSee below.",
            csv,
            odd,
            signature,
        ],
    );
    let found = read(message.as_bytes()).unwrap();
    let pages: Vec<(u32, &str)> = found
        .pages
        .iter()
        .map(|page| (page.number, page.text.as_str()))
        .collect();
    let body = format!("{HEADER_TEXT}See below.");
    assert_eq!(
        pages,
        [
            (1, body.as_str()),
            (2, "Attachment: list.csv\n\na\tb\n1\t2")
        ]
    );
    assert_eq!(
        found.warnings,
        ["attachment 2 could not be read: this kind of file is not supported"]
    );
}

#[test]
fn messages_in_messages_are_read_to_a_bounded_depth() {
    let mut message = "From: a@example.com\r\nSubject: level 9\r\n\r\ninnermost".to_owned();
    for level in (0..9).rev() {
        message = format!(
            "From: a@example.com\r\nSubject: level {level}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\nContent-Type: message/rfc822\r\n\r\n{message}\r\n--b{level}--\r\n"
        );
    }
    let found = read(message.as_bytes()).unwrap();
    for level in 0..=3 {
        assert!(
            found.text.contains(&format!("Subject: level {level}")),
            "{}",
            found.text
        );
    }
    assert!(!found.text.contains("level 4"));
    assert!(
        found
            .warnings
            .iter()
            .any(|warning| warning.contains("3 deep")),
        "{:?}",
        found.warnings
    );
}

#[test]
fn too_many_attachments_are_a_warning() {
    let part =
        "Content-Type: text/plain\r\nContent-Disposition: attachment; filename=n.txt\r\n\r\nnote";
    let mut parts = vec!["Content-Type: text/plain\r\n\r\nbody"];
    parts.extend([part; 130]);
    let found = read(multipart("mixed", &parts).as_bytes()).unwrap();
    assert_eq!(found.pages.len(), 101);
    assert!(
        found.warnings[0].contains("too many"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn a_mailbox_separator_is_skipped() {
    let message = "From anna@example.com Tue Mar  5 10:15:00 2024\nFrom: anna@example.com\nTo: b@example.com\nSubject: x\n\nbody";
    let text = text_of(message.as_bytes(), "");
    assert!(
        text.starts_with("From: anna@example.com\nTo: b@example.com"),
        "{text}"
    );
    assert_eq!(read(b"").unwrap_err().code, Code::UnreadableDocument);
}
