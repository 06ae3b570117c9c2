//! Reading a whole page: which way up, how straight, at what size, and what of it is text.

use std::borrow::Cow;

use image::GrayImage;
use linkspan_model::Code;
use linkspan_model::answer::Line;

use super::library::{Handle, Segmentation, Word};
use super::{Kind, State};
use crate::engine::EngineError;
use crate::ocr::OcrPage;
use crate::ocr::raster::{self, Axis, Lay};

/// Pictures narrower or lower than this hold no text that could be read.
pub(super) const SMALLEST: u32 = 8;

/// The resolution that Tesseract is told: letters are brought to the size that they have at this one.
pub(super) const DOTS_PER_INCH: u32 = 300;

/// Reads a page.
pub(super) fn read(
    state: &mut State,
    picture: &GrayImage,
    languages: &[String],
) -> Result<OcrPage, EngineError> {
    if languages.is_empty() {
        return Err(EngineError::new(
            Code::InvalidParameter,
            "OCR needs at least one language: set `languages`, for example [\"eng\"].",
        ));
    }
    let languages = languages.join("+");
    // A missing language is said even where there is nothing to read.
    state.handle(&languages, Kind::Page)?;
    if picture.width() < SMALLEST || picture.height() < SMALLEST {
        return Ok(OcrPage::default());
    }
    let picture = match raster::dark_on_light(picture) {
        Some(negative) => Cow::Owned(negative),
        None => Cow::Borrowed(picture),
    };
    let lay = raster::lay(&picture);
    let original = size(&picture);
    let straight = if lay.skew == 0.0 {
        picture
    } else {
        Cow::Owned(raster::straightened(&picture, lay.skew))
    };
    let straightened = size(&straight);
    let factor = enlargement(&straight);
    let (sized, factor) = match factor {
        Some(factor) => (Cow::Owned(raster::scaled(&straight, factor)), factor),
        None => (straight, 1.0),
    };
    let ready = lit(sized);
    let (rotated, words) = upright(state, &languages, &ready, lay)?;
    if !is_text(&words) {
        return Ok(OcrPage::default());
    }
    let mut page = OcrPage {
        rotated,
        ..compose(&words, factor)
    };
    if lay.skew != 0.0 {
        let upright = |(width, height)| match rotated {
            90 | 270 => (height, width),
            _ => (width, height),
        };
        for bounds in page
            .lines
            .iter_mut()
            .filter_map(|line| line.bounds.as_mut())
        {
            *bounds = raster::slanted(*bounds, lay.skew, upright(straightened), upright(original))
                .map(f64::round);
        }
    }
    Ok(page)
}

fn size(picture: &GrayImage) -> (f64, f64) {
    (f64::from(picture.width()), f64::from(picture.height()))
}

/// Lines and text from words, with boxes divided by the factor by which the picture was enlarged.
pub(super) fn compose(words: &[Word], factor: f64) -> OcrPage {
    let mut page = OcrPage::default();
    let mut rest = words;
    let mut sum = 0.0;
    while let Some(first) = rest.first() {
        let length = 1 + rest[1..]
            .iter()
            .take_while(|word| !word.starts_line)
            .count();
        let (line, after) = rest.split_at(length);
        rest = after;
        let text = line
            .iter()
            .map(|word| word.text.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        let confidences: f64 = line.iter().map(confidence).sum();
        sum += confidences;
        if first.starts_paragraph && !page.text.is_empty() {
            page.text.push('\n');
        }
        page.text.push_str(&text);
        page.text.push('\n');
        page.lines.push(Line {
            text,
            confidence: rounded(confidences / line.len() as f64),
            bounds: Some(line_box(line, factor)),
        });
    }
    if !words.is_empty() {
        page.confidence = rounded(sum / words.len() as f64);
    }
    page
}

/// The picture's words, and how far it had to be turned for them to stand upright.
fn upright(
    state: &mut State,
    languages: &str,
    picture: &GrayImage,
    lay: Lay,
) -> Result<(u16, Vec<Word>), EngineError> {
    let candidates = candidates(state, picture, lay)?;
    let mut best: Option<(f64, u16, Vec<Word>)> = None;
    for degrees in candidates {
        let turned = match degrees {
            0 => Cow::Borrowed(picture),
            _ => Cow::Owned(raster::turned(picture, degrees)),
        };
        let words = recognised(state.handle(languages, Kind::Page)?, &turned);
        let score = score(&words);
        // Words that are read well are not read well upside down: the first such direction is right.
        let sure = surely_upright(&words);
        if best.as_ref().is_none_or(|(highest, ..)| score > *highest) {
            best = Some((score, degrees, words));
        }
        if sure {
            break;
        }
    }
    Ok(best.map_or((0, Vec::new()), |(_, degrees, words)| (degrees, words)))
}

/// The directions to try, the likeliest first.
fn candidates(state: &mut State, picture: &GrayImage, lay: Lay) -> Result<Vec<u16>, EngineError> {
    let mut candidates: Vec<u16> = match (lay.axis, lay.clarity) {
        (Axis::Across, ..1.5) => vec![0, 180, 90, 270],
        (Axis::Along, ..1.5) => vec![90, 270, 0, 180],
        (Axis::Across, _) => vec![0, 180],
        (Axis::Along, _) => vec![90, 270],
    };
    if state.installed()?.iter().any(|language| language == "osd") {
        let (small, _) = raster::reduced(picture, 2500);
        let found = state
            .handle("osd", Kind::Orientation)?
            .orientation(&small, DOTS_PER_INCH);
        if let Some(orientation) = found {
            // What is turned clockwise is turned on by the rest of the circle.
            let degrees = (360 - orientation.degrees) % 360;
            if orientation.confidence >= 1.0 || candidates.contains(&degrees) {
                candidates.retain(|candidate| *candidate != degrees);
                candidates.insert(0, degrees);
            }
        }
    }
    Ok(candidates)
}

fn recognised(handle: &mut Handle, picture: &GrayImage) -> Vec<Word> {
    let better = |best: Vec<Word>, words: Vec<Word>| {
        if score(&words) > score(&best) {
            words
        } else {
            best
        }
    };
    let mut words = handle.recognise(picture, DOTS_PER_INCH, Segmentation::Auto);
    if mean(&words) < 0.6 {
        // One threshold for the whole picture fails on faint print in a dark frame: take one for each region.
        handle.set(c"thresholding_method", c"1");
        words = better(
            words,
            handle.recognise(picture, DOTS_PER_INCH, Segmentation::Auto),
        );
        handle.set(c"thresholding_method", c"0");
    }
    if letters(&words) < 12 {
        // Few words, or words that the search for columns took for a picture.
        words = better(
            words,
            handle.recognise(picture, DOTS_PER_INCH, Segmentation::Block),
        );
        words = better(
            words,
            handle.recognise(picture, DOTS_PER_INCH, Segmentation::Sparse),
        );
    }
    words
}

/// How much to enlarge (or reduce) a picture so that its letters have the size that Tesseract reads best.
fn enlargement(picture: &GrayImage) -> Option<f64> {
    let height = raster::letter_height(picture)?;
    let factor = if height < 20.0 {
        (30.0 / height).min(4.0)
    } else if height > 80.0 {
        40.0 / height
    } else {
        return None;
    };
    // Memory: and time: at most 16 megapixels.
    let most = (16e6 / (f64::from(picture.width()) * f64::from(picture.height()))).sqrt();
    let factor = factor.min(most.max(1.0));
    (!(0.95..1.1).contains(&factor)).then_some(factor)
}

/// The picture with shadows taken out, where it has any.
fn lit(picture: Cow<'_, GrayImage>) -> Cow<'_, GrayImage> {
    let (even, unevenness) = raster::evened(&picture);
    if unevenness > 0.15 {
        Cow::Owned(even)
    } else {
        picture
    }
}

/// Whether what was read is text at all, and not what Tesseract sees in a photograph.
fn is_text(words: &[Word]) -> bool {
    let good = words
        .iter()
        .filter(|word| word.confidence >= 60.0 && letters_of(word) >= 2)
        .count();
    good > 0 && mean(words) >= 0.3
}

fn surely_upright(words: &[Word]) -> bool {
    let long = words.iter().filter(|word| letters_of(word) >= 3).count();
    let good = words
        .iter()
        .filter(|word| letters_of(word) >= 3 && word.confidence >= 75.0)
        .count();
    good >= 3 && good * 2 > long
}

/// Confidence times length, over all words.
fn score(words: &[Word]) -> f64 {
    words
        .iter()
        .map(|word| confidence(word) * letters_of(word) as f64)
        .sum()
}

/// The mean confidence of a letter.
fn mean(words: &[Word]) -> f64 {
    score(words) / (letters(words) as f64).max(1.0)
}

fn letters(words: &[Word]) -> usize {
    words.iter().map(letters_of).sum()
}

fn letters_of(word: &Word) -> usize {
    word.text
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .count()
}

fn confidence(word: &Word) -> f64 {
    f64::from(word.confidence / 100.0).clamp(0.0, 1.0)
}

fn line_box(line: &[Word], factor: f64) -> [f64; 4] {
    let edge = |index: usize, pick: fn(i32, i32) -> i32| {
        line.iter()
            .map(|word| word.bounds[index])
            .reduce(pick)
            .unwrap_or(0)
    };
    let (left, top) = (edge(0, i32::min), edge(1, i32::min));
    let (right, bottom) = (edge(2, i32::max), edge(3, i32::max));
    [left, top, right - left, bottom - top].map(|pixels| (f64::from(pixels) / factor).round())
}

fn rounded(confidence: f64) -> f64 {
    (confidence * 1000.0).round() / 1000.0
}
