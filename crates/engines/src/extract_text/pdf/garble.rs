//! Telling a garbled text layer from a sound one.
//!
//! A text layer is garbled when its fonts do not say which characters their glyphs stand for: the reader then gets
//! private-use characters, replacement marks, glyph numbers or a shifted alphabet. Ordinary text in any script, code lists and
//! tables of figures must not be taken for that, so a mere suspicion only makes the caller look at the page as well.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// How a text layer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// Text that somebody can read, or too little to say.
    Sound,
    /// It may be garbled: compare it with what OCR reads.
    Doubtful,
    /// It cannot be text: take what OCR reads.
    Garbled,
}

/// Judges a page's text layer. `guessed` is the share of its characters that the PDF gives no meaning to, so that the library
/// made them up.
pub(super) fn judge(text: &str, guessed: f64) -> Layer {
    let counts = Counts::of(text);
    if counts.visible < LEAST_VISIBLE {
        return Layer::Sound;
    }
    let broken = share(counts.broken, counts.visible).max(glyph_names(text, counts.visible));
    if broken >= 0.3 {
        Layer::Garbled
    } else if broken >= 0.1
        || guessed >= 0.5
        || share(counts.symbols, counts.visible) >= 0.4
        || share(counts.mixed_words, counts.words) >= 0.5 && counts.words >= LEAST_WORDS
        || !letters_are_a_language(&counts)
        || cases_are_shuffled(&counts)
    {
        Layer::Doubtful
    } else {
        Layer::Sound
    }
}

/// Whether a text reads like a language: enough letters, and in proportions that languages have. For choosing between two readings
/// of the same page.
pub(super) fn is_plausible(text: &str) -> bool {
    let counts = Counts::of(text);
    counts.letters >= LEAST_LETTERS / 2
        && share(counts.letters, counts.visible) >= 0.5
        && share(counts.broken, counts.visible) < 0.02
        && share(counts.mixed_words, counts.words) < 0.2
        && !cases_are_shuffled(&counts)
        && letters_are_a_language(&counts)
}

/// Below this many visible characters nothing is said of a text.
const LEAST_VISIBLE: usize = 12;
/// Below this many words their scripts say nothing.
const LEAST_WORDS: usize = 8;
/// Below this many Latin letters their proportions say nothing.
const LEAST_LETTERS: usize = 80;

/// In languages written with Latin letters, marks taken off, 65 % of the letters (Polish) to 83 % (Finnish) are one of these and
/// 36 % or more are vowels; in a shifted or shuffled alphabet about half and a quarter.
const COMMON: &str = "etaonirshldu";
const VOWELS: &str = "aeiouy";

/// Whether the Latin letters of a text come in proportions that a language has; true where there are too few to say.
fn letters_are_a_language(counts: &Counts) -> bool {
    if counts.latin < LEAST_LETTERS {
        return true;
    }
    let common = share(counts.common, counts.latin);
    let vowels = share(counts.vowels, counts.latin);
    // Cyrillic or Greek in a font of the eight-bit days comes out as accented Latin letters throughout.
    let accented = share(counts.upper_latin_1, counts.latin);
    common >= 0.55 && (common >= 0.7 || vowels >= 0.3) && accented < 0.5
}

/// Whether capitals follow small letters within words, as they do where a font's whole table of characters is shuffled: signs then
/// split the words, and too few letters are left in long ones to judge by. Source code looks so too, hence a mere suspicion.
fn cases_are_shuffled(counts: &Counts) -> bool {
    counts.words >= LEAST_WORDS && share(counts.capitals_within, counts.words) >= 0.15
}

/// The share of a text that is names or numbers of glyphs: `(cid:12)`, `/g12`, `glyph<12>`.
fn glyph_names(text: &str, visible: usize) -> f64 {
    let mut covered = 0;
    for (opening, closing) in [("(cid:", ")"), ("glyph<", ">"), ("GLYPH<", ">"), ("/g", "")] {
        for (start, _) in text.match_indices(opening) {
            let rest = text.get(start + opening.len()..).unwrap_or_default();
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0
                && rest
                    .get(digits..)
                    .is_some_and(|after| after.starts_with(closing))
            {
                covered += opening.len() + digits + closing.len();
            }
        }
    }
    share(covered, visible)
}

/// What a text consists of.
#[derive(Debug, Default)]
struct Counts {
    /// Characters that are not white space.
    visible: usize,
    /// Private-use, replacement and control characters.
    broken: usize,
    /// Signs that are neither letters, digits nor usual in tables and tables of contents.
    symbols: usize,
    /// Letters of any script.
    letters: usize,
    /// Latin letters in words of four and more.
    latin: usize,
    /// Those of them, marks taken off, in [`COMMON`].
    common: usize,
    /// Those of them in [`VOWELS`].
    vowels: usize,
    /// Those of them that stood at U+00C0 to U+00FF.
    upper_latin_1: usize,
    /// Runs of two letters or more.
    words: usize,
    /// Words in which two scripts meet.
    mixed_words: usize,
    /// Words in which a capital follows a small letter.
    capitals_within: usize,
}

impl Counts {
    fn of(text: &str) -> Self {
        let mut counts = Self::default();
        let mut word: Vec<char> = Vec::new();
        for character in text.chars() {
            if character.is_alphabetic() {
                word.push(character);
            } else if !is_combining_mark(character) {
                counts.end_word(&mut word);
            }
            if character.is_whitespace() {
                continue;
            }
            counts.visible += 1;
            if is_broken(character) {
                counts.broken += 1;
            } else if character.is_alphabetic() {
                counts.letters += 1;
            } else if is_odd_symbol(character) {
                counts.symbols += 1;
            }
        }
        counts.end_word(&mut word);
        counts
    }

    fn count_latin(&mut self, letter: char) {
        // The first character of the decomposition is the letter without its marks.
        let plain = match letter.to_lowercase().next().unwrap_or(letter) {
            'ı' => 'i',
            'ł' => 'l',
            'ø' => 'o',
            'đ' => 'd',
            lower => lower.nfd().next().unwrap_or(lower),
        };
        self.latin += 1;
        self.common += usize::from(COMMON.contains(plain));
        self.vowels += usize::from(VOWELS.contains(plain));
        self.upper_latin_1 += usize::from(('\u{c0}'..='\u{ff}').contains(&letter));
    }

    fn end_word(&mut self, word: &mut Vec<char>) {
        if word.len() >= 2 {
            self.words += 1;
            self.mixed_words += usize::from(
                word.windows(2)
                    .any(|pair| Script::of(pair[0]) != Script::of(pair[1])),
            );
            self.capitals_within += usize::from(
                word.windows(2)
                    .any(|pair| pair[0].is_lowercase() && pair[1].is_uppercase()),
            );
        }
        // Short words are often codes and units, which keep to no language's proportions.
        if word.len() >= 4
            && word
                .iter()
                .all(|&letter| Script::of(letter) == Script::Latin)
        {
            word.iter().for_each(|&letter| self.count_latin(letter));
        }
        word.clear();
    }
}

/// The writing systems, as far as words do not mix them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
    /// Han, Kana, Hangul and Bopomofo, which mix with each other.
    EastAsian,
    /// Any other: its block of 128 characters, which is how the scripts of India are laid out.
    Other(u32),
}

impl Script {
    fn of(letter: char) -> Self {
        match u32::from(letter) {
            0x41..=0x24f
            | 0x1e00..=0x1eff
            | 0x2c60..=0x2c7f
            | 0xa720..=0xa7ff
            | 0xfb00..=0xfb06 => Self::Latin,
            // Letters that serve as units and in formulas stand beside any script.
            0x370..=0x3ff | 0x1f00..=0x1fff => Self::Greek,
            0x400..=0x52f => Self::Cyrillic,
            0x590..=0x5ff | 0xfb1d..=0xfb4f => Self::Hebrew,
            0x600..=0x77f | 0x8a0..=0x8ff | 0xfb50..=0xfdff | 0xfe70..=0xfeff => Self::Arabic,
            0x1100..=0x11ff
            | 0x2e80..=0x9fff
            | 0xac00..=0xd7ff
            | 0xf900..=0xfaff
            | 0xff00..=0xffef
            | 0x20000..=0x3ffff => Self::EastAsian,
            other => Self::Other(other >> 7),
        }
    }
}

fn is_broken(character: char) -> bool {
    matches!(u32::from(character), 0xfffd | 0xe000..=0xf8ff | 0xf0000..=0x10ffff | 0x0..=0x8 | 0xe..=0x1f | 0x7f..=0x9f)
}

/// Signs that text, tables and forms hold few of.
fn is_odd_symbol(character: char) -> bool {
    character.is_ascii_punctuation() && !".,:;-_'\"()/%|".contains(character)
        || ('\u{a1}'..='\u{bf}').contains(&character) && !"£¥§©«®°·»¿¡".contains(character)
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{Layer, is_plausible, judge};

    const SOUND: [(&str, &str); 13] = [
        (
            "English",
            "The harbour board met on Tuesday and agreed to renew the lease of the north berth for five years.",
        ),
        (
            "German",
            "Die Hafenbehörde hat am Dienstag beschlossen, den Pachtvertrag für den Nordkai um fünf Jahre zu verlängern.",
        ),
        (
            "Polish",
            "Zarząd portu postanowił we wtorek przedłużyć umowę dzierżawy nabrzeża północnego o kolejne pięć lat.",
        ),
        (
            "Czech",
            "Správa přístavu se v úterý rozhodla prodloužit nájemní smlouvu na severní molo o dalších pět let.",
        ),
        (
            "Turkish",
            "Liman yönetimi salı günü kuzey rıhtımının kira sözleşmesini beş yıl daha uzatmaya karar verdi.",
        ),
        (
            "Vietnamese",
            "Ban quản lý cảng đã quyết định gia hạn hợp đồng thuê cầu cảng phía bắc thêm năm năm nữa vào thứ ba.",
        ),
        (
            "Finnish",
            "Satamahallitus päätti tiistaina jatkaa pohjoisen laiturin vuokrasopimusta vielä viidellä vuodella.",
        ),
        (
            "Russian",
            "Управление порта решило во вторник продлить договор аренды северного причала на пять лет.",
        ),
        (
            "Greek",
            "Η διοίκηση του λιμανιού αποφάσισε την Τρίτη να ανανεώσει τη μίσθωση της βόρειας προβλήτας.",
        ),
        (
            "Arabic",
            "قرر مجلس إدارة الميناء يوم الثلاثاء تجديد عقد إيجار الرصيف الشمالي لمدة خمس سنوات.",
        ),
        (
            "Hindi",
            "बंदरगाह बोर्ड ने मंगलवार को उत्तरी घाट का पट्टा पाँच साल के लिए बढ़ाने का निर्णय लिया।",
        ),
        (
            "Japanese",
            "港湾委員会は火曜日に北埠頭の賃貸契約を五年間更新することを決定しました。",
        ),
        (
            "figures",
            "2023 1,250.75 -3.2% 4,871.00 ....... 17 | 2024 1,310.20 +4.8% 5,002.10 ....... 18 | n/a 0.00 (12.5)",
        ),
    ];

    #[test]
    fn text_in_any_script_is_sound() {
        for (name, text) in SOUND {
            assert_eq!(judge(text, 0.0), Layer::Sound, "{name}");
        }
    }

    #[test]
    fn glyph_numbers_and_private_characters_are_garbled() {
        for text in [
            "(cid:12)(cid:7)(cid:33) (cid:4)(cid:81)",
            "\u{e012}\u{e033}\u{e0a1} \u{f0b7}\u{e044}\u{e012}\u{e033}\u{e0a1}\u{e044}\u{e012}\u{e033}\u{e0a1}",
            &"\u{fffd}".repeat(40),
        ] {
            assert_eq!(judge(text, 0.0), Layer::Garbled, "{text:?}");
        }
    }

    #[test]
    fn shifted_alphabets_and_guessed_characters_are_doubtful() {
        let english = &SOUND[0].1.repeat(2);
        let moved = |by: u8| -> String {
            english
                .chars()
                .map(|c| {
                    if c.is_ascii_alphabetic() {
                        char::from((c as u8).wrapping_sub(by))
                    } else {
                        c
                    }
                })
                .collect()
        };
        assert_eq!(judge(&moved(29), 0.0), Layer::Doubtful);
        let caesar: String = english
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() {
                    char::from((c as u8 - b'a' + 3) % 26 + b'a')
                } else {
                    c
                }
            })
            .collect();
        assert_eq!(judge(&caesar, 0.0), Layer::Doubtful);
        assert!(is_plausible(english) && !is_plausible(&caesar) && !is_plausible(&moved(29)));
        assert_eq!(judge(english, 0.9), Layer::Doubtful);
        // Cyrillic of the Windows code page 1251, read as Latin-1.
        let eight_bit = "Óïðàâëåíèå ïîðòà ðåøèëî âî âòîðíèê ïðîäëèòü äîãîâîð àðåíäû ñåâåðíîãî ïðè÷àëà íà ïÿòü ëåò è áîëåå òîãî";
        assert_eq!(judge(&eight_bit.repeat(2), 0.0), Layer::Doubtful);
    }

    #[test]
    fn a_shuffled_table_of_characters_is_doubtful_though_its_signs_leave_few_long_words() {
        // Each printable character of the Latin table stands for another one.
        let shuffled = |text: &str| -> String {
            text.chars()
                .map(|c| {
                    if c.is_ascii_graphic() {
                        char::from_u32((u32::from(c) - 33) * 37 % 94 + 33).unwrap() // 37 and 94 have no common factor
                    } else {
                        c
                    }
                })
                .collect()
        };
        let read = shuffled(&SOUND[0].1.repeat(2));
        assert_eq!(judge(&read, 0.0), Layer::Doubtful, "{read}");
        assert!(!is_plausible(&read), "{read}");
        // Names with a capital within are no sign of it.
        let names = &SOUND[0]
            .1
            .repeat(2)
            .replace("board", "board of McKay, DeVries and LaRue");
        assert_eq!(judge(names, 0.0), Layer::Sound);
        assert!(is_plausible(names));
    }
}
