//! Plain text, and the encodings of all text formats.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use linkspan_model::Code;

use super::{Extracted, Reader, one_page};
use crate::engine::{Document, EngineError};

/// A text and how sure its decoding is.
pub(super) struct Decoded {
    pub(super) text: String,
    /// A sentence where bytes did not fit the encoding.
    pub(super) warning: Option<String>,
}

pub(super) fn extract(
    document: &Document<'_>,
    _reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let declared = document
        .media_type
        .and_then(charset)
        .or_else(|| declared_in_xml(document.bytes));
    let decoded = decode(document.bytes, declared);
    let mut extracted = one_page(decoded.text);
    extracted.warnings.extend(decoded.warning);
    Ok(extracted)
}

/// Decodes by, in this order: the byte order mark, NUL bytes in UTF-16's places, UTF-8 where it is valid, the encoding that was
/// declared, and detection.
pub(super) fn decode(bytes: &[u8], declared: Option<&'static Encoding>) -> Decoded {
    if let Some(text) = utf32(bytes) {
        return Decoded {
            text,
            warning: None,
        };
    }
    let encoding = if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        encoding
    } else if let Some(encoding) = utf16_without_mark(bytes) {
        encoding
    } else if std::str::from_utf8(bytes).is_ok() && !escapes_like_iso_2022(bytes, declared) {
        UTF_8
    } else {
        // What the bytes cannot be is not what was declared.
        declared
            .filter(|encoding| {
                !is_utf16(encoding) && !encoding.decode_without_bom_handling(bytes).1
            })
            .unwrap_or_else(|| mostly_utf8(bytes).unwrap_or_else(|| detect(bytes)))
    };
    let (text, _, damaged) = encoding.decode(bytes);
    Decoded {
        warning: damaged.then(|| {
            format!(
                "some bytes are not valid {}: they are shown as \u{fffd}",
                encoding.name()
            )
        }),
        text: text.into_owned(),
    }
}

/// The charset of a media type: `text/html; charset=iso-8859-2`.
pub(super) fn charset(media_type: &str) -> Option<&'static Encoding> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| Encoding::for_label(value.trim().trim_matches(['"', '\'']).as_bytes()))
            .flatten()
    })
}

/// Whether text is what the bytes hold: no NUL and next to no control characters, or a Unicode encoding that explains them.
pub(super) fn looks_like_text(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(64 * 1024)];
    if Encoding::for_bom(sample).is_some()
        || utf16_without_mark(sample).is_some()
        || utf32(bytes).is_some()
    {
        return true;
    }
    let controls = sample
        .iter()
        .filter(|b| matches!(b, 0..=8 | 14..=26 | 28..=31 | 127))
        .count();
    let nuls = sample.iter().filter(|b| **b == 0).count();
    // A stray NUL in a long log is damage; a binary file is full of them.
    nuls * 1000 <= sample.len() && controls * 50 <= sample.len()
}

fn is_utf16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

/// ISO-2022-JP is valid ASCII, so only its declaration and its escapes tell it.
fn escapes_like_iso_2022(bytes: &[u8], declared: Option<&'static Encoding>) -> bool {
    declared == Some(encoding_rs::ISO_2022_JP) && bytes.contains(&0x1b)
}

/// UTF-8 with little damage (a cut or pasted file) rather than another encoding: nearly all of its non-ASCII bytes decode.
fn mostly_utf8(bytes: &[u8]) -> Option<&'static Encoding> {
    let high = bytes.iter().filter(|b| **b >= 0x80).count();
    let damaged: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (damaged * 20 < high).then_some(UTF_8)
}

fn detect(bytes: &[u8]) -> &'static Encoding {
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, chardetng::Utf8Detection::Allow)
}

/// Western text in UTF-16 has a NUL in every second byte.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(4096) & !1];
    if sample.len() < 4 {
        return None;
    }
    let pairs = sample.len() / 2;
    let (mut first, mut second) = (0, 0);
    for pair in sample.chunks_exact(2) {
        first += usize::from(pair[0] == 0);
        second += usize::from(pair[1] == 0);
    }
    let many = |nuls: usize| nuls * 10 >= pairs * 4;
    let few = |nuls: usize| nuls * 50 <= pairs;
    let decodes =
        |encoding: &'static Encoding| !encoding.decode_without_bom_handling(sample_end(sample)).1;
    if many(second) && few(first) && decodes(UTF_16LE) {
        Some(UTF_16LE)
    } else if many(first) && few(second) && decodes(UTF_16BE) {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// The sample without a last unit that may be half of a surrogate pair.
fn sample_end(sample: &[u8]) -> &[u8] {
    &sample[..sample.len() - 2]
}

fn utf32(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 4]) -> u32 = match bytes {
        [0xff, 0xfe, 0, 0, ..] => u32::from_le_bytes,
        [0, 0, 0xfe, 0xff, ..] => u32::from_be_bytes,
        _ => return None,
    };
    bytes[4..]
        .chunks_exact(4)
        .map(|c| char::from_u32(unit([c[0], c[1], c[2], c[3]])))
        .collect()
}

/// The encoding of an XML declaration.
pub(super) fn declared_in_xml(bytes: &[u8]) -> Option<&'static Encoding> {
    let rest = bytes.strip_prefix(b"<?xml")?;
    let head = String::from_utf8_lossy(&rest[..rest.len().min(200)]);
    let declaration = head.split("?>").next()?;
    let value = declaration
        .split_once("encoding")?
        .1
        .trim_start()
        .strip_prefix('=')?
        .trim_start();
    let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    Encoding::for_label(value[1..].split(quote).next()?.as_bytes())
}

/// Says that a text file stands where its name or media type promises another kind of file.
pub(super) fn not_what_it_claims(claim: &str) -> EngineError {
    EngineError::new(
        Code::UnreadableDocument,
        format!(
            "the document is declared as {claim} and holds plain text: send the real file, or declare it as text/plain"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn encodings_are_found() {
        let german = "Die Straßenbahn fährt über die Brücke nach Süden.";
        let polish = "Zażółć gęślą jaźń, powiedział żółw do łosia na łące.";
        let russian = "Съешь ещё этих мягких французских булок, да выпей чаю.";
        let japanese = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (german.as_bytes().to_vec(), german),
            ([b"\xef\xbb\xbf", german.as_bytes()].concat(), german),
            (
                encoding_rs::WINDOWS_1252.encode(german).0.into_owned(),
                german,
            ),
            (
                encoding_rs::WINDOWS_1250.encode(polish).0.into_owned(),
                polish,
            ),
            (
                encoding_rs::WINDOWS_1251.encode(russian).0.into_owned(),
                russian,
            ),
            (encoding_rs::KOI8_R.encode(russian).0.into_owned(), russian),
            (
                encoding_rs::SHIFT_JIS.encode(japanese).0.into_owned(),
                japanese,
            ),
            (
                encoding_rs::EUC_JP.encode(japanese).0.into_owned(),
                japanese,
            ),
            (
                [vec![0xff, 0xfe], utf16(german, u16::to_le_bytes)].concat(),
                german,
            ),
            (
                [vec![0xfe, 0xff], utf16(russian, u16::to_be_bytes)].concat(),
                russian,
            ),
            (utf16(german, u16::to_le_bytes), german),
            (utf16(german, u16::to_be_bytes), german),
            (
                [0xfeff]
                    .into_iter()
                    .chain(german.chars().map(u32::from))
                    .flat_map(u32::to_le_bytes)
                    .collect(),
                german,
            ),
        ];
        for (bytes, expected) in cases {
            assert!(looks_like_text(&bytes));
            let decoded = decode(&bytes, None);
            assert_eq!(decoded.text.trim_start_matches('\u{feff}'), expected);
            assert_eq!(decoded.warning, None);
        }
    }

    #[test]
    fn the_declared_charset_decides_between_eight_bit_encodings() {
        let bytes = [b'a', 0xe8];
        assert_eq!(
            decode(&bytes, charset("text/plain; charset=\"iso-8859-2\"")).text,
            "ač"
        );
        assert_eq!(
            decode(&bytes, charset("text/plain;charset=windows-1251")).text,
            "aи"
        );
        assert_eq!(
            decode("č".as_bytes(), charset("text/plain; charset=iso-8859-1")).text,
            "č"
        );
        assert!(charset("text/plain; charset=no-such").is_none());
        assert!(charset("text/plain").is_none());
    }

    #[test]
    fn a_damaged_utf_8_text_keeps_its_sound_part_and_warns() {
        let mut bytes =
            "Grüße aus München, schöne Straßen, süße Äpfel, früh übt sich, große Öfen, kühl"
                .repeat(3)
                .into_bytes();
        bytes.push(0xc3);
        let decoded = decode(&bytes, None);
        assert!(decoded.text.contains("Grüße aus München"));
        assert!(decoded.warning.is_some());
    }

    #[test]
    fn binary_data_is_not_text() {
        let binary: Vec<u8> = (0..4096u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        assert!(!looks_like_text(&binary));
        assert!(!looks_like_text(&[0; 100]));
        assert!(looks_like_text(b"a log line\nanother\n"));
    }

    #[test]
    fn an_xml_declaration_names_its_encoding() {
        assert_eq!(
            declared_in_xml(b"<?xml version=\"1.0\" encoding='ISO-8859-1'?><a/>"),
            Some(encoding_rs::WINDOWS_1252)
        );
        assert_eq!(
            declared_in_xml(b"<?xml version=\"1.0\"?><a encoding='x'/>"),
            None
        );
        assert_eq!(declared_in_xml(b"<?xml"), None);
    }
}
