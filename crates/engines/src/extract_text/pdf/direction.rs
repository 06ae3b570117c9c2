//! Right-to-left text: from the order in which it stands on the page to the order in which it is read.

use unicode_bidi::{BidiClass, BidiInfo, Level, bidi_class};
use unicode_normalization::UnicodeNormalization as _;

/// Whether a text holds letters that are written from right to left.
pub(super) fn has_right_to_left(text: &str) -> bool {
    text.chars()
        .any(|c| matches!(bidi_class(c), BidiClass::R | BidiClass::AL))
}

/// Whether more letters of a text are written from right to left than from left to right.
pub(super) fn is_right_to_left(text: &str) -> bool {
    let (right, left) = text
        .chars()
        .fold((0, 0), |(right, left), c| match bidi_class(c) {
            BidiClass::R | BidiClass::AL => (right + 1, left),
            BidiClass::L => (right, left + 1),
            _ => (right, left),
        });
    right > left
}

/// Turns a line's clusters (a base with its marks, or a ligature), which stand in the order of the page from left to right, into
/// logical order. `rightward` says whether the line's paragraph reads from right to left.
///
/// The Unicode Bidirectional Algorithm (UAX #9) turns logical into visual order by reversing runs; the same reversals, with levels
/// found on the visual order, lead back. Numbers and Latin runs keep their order.
pub(super) fn logical(clusters: &[&str], rightward: bool) -> String {
    // One character for each cluster decides its direction; what lies in a cluster is in logical order already.
    let bases: String = clusters
        .iter()
        .map(|cluster| cluster.chars().next().map_or(' ', plain))
        .collect();
    let base_level = if rightward {
        Level::rtl()
    } else {
        Level::ltr()
    };
    let info = BidiInfo::new(&bases, Some(base_level));
    let levels: Vec<Level> = bases
        .char_indices()
        .filter_map(|(at, _)| info.levels.get(at).copied())
        .collect();
    if levels.len() != clusters.len() {
        return clusters.concat();
    }
    let order = BidiInfo::reorder_visual(&levels);
    let as_drawn: String = order
        .iter()
        .filter_map(|&index| clusters.get(index).copied())
        .collect();
    let mirrored: String = order
        .iter()
        .map(|&index| {
            let cluster = clusters.get(index).copied().unwrap_or_default();
            if levels.get(index).is_some_and(Level::is_rtl) {
                mirror(cluster)
            } else {
                cluster.to_owned()
            }
        })
        .collect();
    // Some files name a bracket by what it means, some by how it looks: take what opens before it closes.
    let chosen = if balance(&mirrored) >= balance(&as_drawn) {
        mirrored
    } else {
        as_drawn
    };
    without_presentation_forms(&chosen)
}

/// Replaces the shaped forms of Arabic letters (U+FB50 to U+FDFF, U+FE70 to U+FEFF) by the letters.
pub(super) fn without_presentation_forms(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_presentation_form(character) {
            plain.extend(character.nfkc());
        } else {
            plain.push(character);
        }
    }
    plain
}

fn is_presentation_form(character: char) -> bool {
    matches!(character, '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}')
}

fn plain(character: char) -> char {
    if is_presentation_form(character) {
        character.nfkc().next().unwrap_or(character)
    } else {
        character
    }
}

fn mirror(cluster: &str) -> String {
    cluster
        .chars()
        .map(|c| {
            BRACKETS
                .iter()
                .find_map(|&(open, close)| {
                    if c == open {
                        Some(close)
                    } else {
                        (c == close).then_some(open)
                    }
                })
                .unwrap_or(c)
        })
        .collect()
}

/// How many brackets open before they close, less those that do not.
fn balance(text: &str) -> i32 {
    let mut open = Vec::new();
    let mut score = 0;
    for character in text.chars() {
        for &(opening, closing) in &BRACKETS {
            if character == opening {
                open.push(opening);
            } else if character == closing {
                score += if open.last() == Some(&opening) { 1 } else { -1 };
                open.pop();
            }
        }
    }
    score - i32::try_from(open.len()).unwrap_or(i32::MAX)
}

const BRACKETS: [(char, char); 5] = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>'), ('«', '»')];

#[cfg(test)]
mod tests {
    use super::{logical, without_presentation_forms};

    /// What stands on the page, from left to right, and how it is read.
    #[test]
    fn what_stands_on_the_page_is_turned_into_reading_order() {
        let cases: [(&str, bool, &str); 6] = [
            ("םלוע םולש", true, "שלום עולם"),
            ("2024 רפסמ", true, "מספר 2024"),
            ("1,250.75 ךס", true, "סך 1,250.75"),
            ("Linkspan Ltd תרבח", true, "חברת Linkspan Ltd"),
            ("(בושח) רבד", true, "דבר (חשוב)"),
            (
                "The word םולש means peace",
                false,
                "The word שלום means peace",
            ),
        ];
        for (page, rightward, expected) in cases {
            let clusters: Vec<String> = page.chars().map(String::from).collect();
            let clusters: Vec<&str> = clusters.iter().map(String::as_str).collect();
            assert_eq!(logical(&clusters, rightward), expected);
        }
    }

    #[test]
    fn brackets_open_before_they_close_whichever_way_the_file_names_them() {
        for page in ["(בושח) רבד", ")בושח( רבד"] {
            let clusters: Vec<String> = page.chars().map(String::from).collect();
            assert_eq!(
                logical(
                    &clusters.iter().map(String::as_str).collect::<Vec<_>>(),
                    true
                ),
                "דבר (חשוב)"
            );
        }
    }

    #[test]
    fn a_cluster_keeps_its_own_order() {
        assert_eq!(
            logical(&["ם", "ו\u{5b9}", "ל", "ש\u{5c1}\u{5b8}"], true),
            "ש\u{5c1}\u{5b8}לו\u{5b9}ם"
        );
    }

    #[test]
    fn shaped_arabic_letters_become_the_letters() {
        assert_eq!(without_presentation_forms("ﺍﻟﻠﺠﻨﺔ ﻻ"), "اللجنة لا");
    }
}
