//! Whether two names are the same person's.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// How alike two names are, 0 to 1: their words are paired as well as they go, by the square of their Jaro-Winkler likeness; an initial
/// matches the word that it begins. Order, case, accents and punctuation do not count.
pub(super) fn likeness(a: &str, b: &str) -> f64 {
    let (a, b) = (words(a), words(b));
    let (few, many) = if a.len() <= b.len() {
        (&a, &b)
    } else {
        (&b, &a)
    };
    if few.is_empty() {
        return 0.0;
    }
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (i, left) in few.iter().enumerate() {
        for (j, right) in many.iter().enumerate() {
            pairs.push((alike(left, right), i, j));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut used_few, mut used_many) = (vec![false; few.len()], vec![false; many.len()]);
    let mut sum = 0.0;
    for (likeness, i, j) in pairs {
        if !used_few[i] && !used_many[j] {
            (used_few[i], used_many[j]) = (true, true);
            sum += likeness;
        }
    }
    // Second given names are often left out: a word without a partner costs little, a wrong one much.
    let left_over = (many.len() - few.len()) as f64;
    sum / (few.len() as f64 + 0.1 * left_over)
}

fn alike(a: &str, b: &str) -> f64 {
    let (short, long) = if a.chars().count() <= b.chars().count() {
        (a, b)
    } else {
        (b, a)
    };
    if short.chars().count() == 1 && long.chars().count() > 1 {
        return if long.starts_with(short) { 0.9 } else { 0.0 };
    }
    strsim::jaro_winkler(a, b).powi(2)
}

/// The words in capitals without accents, as a zone spells them (ICAO 9303 part 3, 6).
fn words(name: &str) -> Vec<String> {
    let mut plain = String::new();
    for letter in name.nfc() {
        match letter {
            'ä' | 'Ä' | 'æ' | 'Æ' => plain.push_str("AE"),
            'ö' | 'Ö' | 'ø' | 'Ø' | 'œ' | 'Œ' => plain.push_str("OE"),
            'ü' | 'Ü' => plain.push_str("UE"),
            'å' | 'Å' => plain.push_str("AA"),
            'ß' => plain.push_str("SS"),
            'þ' | 'Þ' => plain.push_str("TH"),
            'ð' | 'Ð' | 'đ' | 'Đ' => plain.push('D'),
            'ł' | 'Ł' => plain.push('L'),
            // Left out within a word, as the zone does: O'NEILL is ONEILL.
            '\'' | '’' | '.' => {}
            other => plain.extend(
                std::iter::once(other)
                    .nfd()
                    .filter(|letter| !is_combining_mark(*letter))
                    .flat_map(char::to_uppercase),
            ),
        }
    }
    plain
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
