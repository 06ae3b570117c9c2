//! Putting right what OCR confuses in a machine-readable zone, where the zone's own rules decide it.

use super::zone::Alphabet;

/// The character as the place's alphabet has it: `O` in a date is a zero. Characters without a likeness stay.
pub(super) fn as_alphabet(letter: char, alphabet: Alphabet) -> char {
    let swap = |pairs: &[(char, char)]| {
        pairs
            .iter()
            .find(|(from, _)| *from == letter)
            .map_or(letter, |(_, to)| *to)
    };
    match alphabet {
        Alphabet::Digits => swap(&[
            ('O', '0'),
            ('Q', '0'),
            ('D', '0'),
            ('U', '0'),
            ('I', '1'),
            ('L', '1'),
            ('Z', '2'),
            ('A', '4'),
            ('S', '5'),
            ('G', '6'),
            ('T', '7'),
            ('B', '8'),
        ]),
        Alphabet::Letters => swap(&[
            ('0', 'O'),
            ('1', 'I'),
            ('2', 'Z'),
            ('4', 'A'),
            ('5', 'S'),
            ('6', 'G'),
            ('7', 'T'),
            ('8', 'B'),
        ]),
        Alphabet::Any => letter,
    }
}

/// The ways in which a line that OCR read with a wrong length may have stood: fillers are lost or doubled in runs, and strokes beside
/// the zone are read as characters.
pub(super) fn fitted(line: &str, width: usize) -> Vec<String> {
    const SLACK: usize = 7;
    let length = line.len();
    if length == width {
        return vec![line.to_owned()];
    }
    if length + SLACK < width || length > width + SLACK {
        return Vec::new();
    }
    let mut fitted = Vec::new();
    if length < width {
        let missing = "<".repeat(width - length);
        for (start, _) in runs(line) {
            fitted.push(format!("{}{missing}{}", &line[..start], &line[start..]));
        }
        fitted.push(format!("{line}{missing}"));
    } else {
        let extra = length - width;
        for (start, run) in runs(line) {
            if run > extra {
                fitted.push(format!("{}{}", &line[..start], &line[start + extra..]));
            }
        }
        for cut in 0..=extra {
            fitted.push(line[cut..cut + width].to_owned());
        }
    }
    fitted
}

/// The names with what OCR made of the fillers behind them put right; and whether anything was.
///
/// A double filler ends the names (ICAO 9303 part 3, 4.6); `K`, `C`, `L`, `E` and their like behind it are misread fillers. So is a run of one
/// such letter at the end of the line.
pub(super) fn trimmed_names(names: &str, separated: bool) -> (String, bool) {
    const LIKE_FILLER: [char; 9] = ['K', 'C', 'L', 'E', 'S', 'X', 'R', 'G', 'F'];
    let mut letters: Vec<char> = names.chars().collect();
    let given = if separated {
        names.find("<<").map_or(0, |at| at + 2)
    } else {
        0
    };
    // The fillers behind the names begin where two stand together again.
    if let Some(end) = names
        .get(given..)
        .and_then(|rest| rest.find("<<"))
        .map(|at| at + given)
    {
        for letter in &mut letters[end..] {
            *letter = '<';
        }
    } else {
        // A run of one letter's likeness, with or without fillers in it.
        let tail = letters
            .iter()
            .rev()
            .take_while(|letter| **letter == '<' || LIKE_FILLER.contains(letter))
            .count();
        let start = letters.len() - tail;
        let kinds: std::collections::BTreeSet<_> = letters[start..]
            .iter()
            .filter(|letter| **letter != '<')
            .collect();
        if tail >= 4 && kinds.len() == 1 {
            // The first of the run may be the name's own last letter: a filler before it says that it is not.
            let own = usize::from(letters[start] != '<' && start > 0 && letters[start - 1] != '<');
            for letter in &mut letters[start + own..] {
                *letter = '<';
            }
        }
    }
    let trimmed = String::from_iter(letters);
    let changed = trimmed != names;
    (trimmed, changed)
}

/// The runs of fillers in a line: start and length, the longest first.
fn runs(line: &str) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, letter) in line.bytes().enumerate() {
        match runs.last_mut() {
            Some((start, length)) if letter == b'<' && *start + *length == index => *length += 1,
            _ if letter == b'<' => runs.push((index, 1)),
            _ => {}
        }
    }
    runs.sort_by_key(|(start, length)| (std::cmp::Reverse(*length), *start));
    runs
}
