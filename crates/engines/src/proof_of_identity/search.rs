//! Finding the machine-readable zone in a picture: which way up, where, and which of several readings holds together.

use std::collections::BTreeMap;

use image::GrayImage;
use image::imageops;
use linkspan_model::answer::Line;

use super::zone::{Format, Zone};
use super::{cells, repair};
use crate::engine::EngineError;
use crate::ocr::Ocr;
use crate::ocr::raster::{self, Axis};

/// The zone that was found, and how well it was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The zone.
    pub(super) zone: Zone,
    /// The OCR's confidence in each line.
    pub(super) confidences: Vec<f64>,
    /// For each line, the share of the readings cell by cell that agree on it; at most a half where there were fewer than three.
    pub(super) agreements: Vec<f64>,
    /// How often the zone was read.
    pub(super) readings: usize,
    /// Whether fillers behind the names had to be put right.
    pub(super) names_repaired: bool,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// A zone, the better half of its check digits right at least.
    Zone(Box<Found>),
    /// Lines that look like a zone, and could not be read as one.
    Unreadable,
    /// Nothing like a zone.
    Nothing,
}

const CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789<";

/// Language data made for the zone's typeface; used beside `eng` where installed.
const ZONE_LANGUAGES: [&str; 4] = ["ocrb", "OCRB", "mrz", "ocrb_int"];

/// Looks for a zone in a picture.
pub(super) fn search(ocr: &dyn Ocr, picture: &GrayImage) -> Result<Outcome, EngineError> {
    if picture.width() < 40 || picture.height() < 40 {
        return Ok(Outcome::Nothing);
    }
    let installed = ocr.languages()?;
    let mut languages = vec!["eng"];
    languages.extend(
        ZONE_LANGUAGES
            .iter()
            .find(|language| installed.iter().any(|name| name == *language)),
    );
    let lay = raster::lay(picture);
    let straight = if lay.skew == 0.0 {
        picture.clone()
    } else {
        raster::straightened(picture, lay.skew)
    };
    let (even, unevenness) = raster::evened(&straight);
    let straight = if unevenness > 0.15 { even } else { straight };
    let directions: &[u16] = match (lay.axis, lay.clarity) {
        (Axis::Across, 2.0..) => &[0, 180],
        (Axis::Along, 2.0..) => &[90, 270],
        (Axis::Across, _) => &[0, 180, 90, 270],
        (Axis::Along, _) => &[90, 270, 0, 180],
    };
    let mut seen = false;
    let mut best: Option<Found> = None;
    for degrees in directions {
        let turned = raster::turned(&straight, *degrees);
        for crop in [bottom(&turned), turned.clone()] {
            let readings = readings(ocr, &languages, &crop)?;
            seen |= !readings.is_empty();
            let found = best_zone(&readings);
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| better(&found, best))
            {
                best = Some(found);
            }
            if best.as_ref().is_some_and(|found| found.zone.all_right()) {
                break;
            }
        }
        if best
            .as_ref()
            .is_some_and(|found| found.zone.right() * 2 > found.zone.format.checks().len())
        {
            break;
        }
    }
    Ok(match best {
        Some(found) if found.zone.right() * 2 >= found.zone.format.checks().len() => {
            Outcome::Zone(Box::new(found))
        }
        Some(_) => Outcome::Unreadable,
        None if seen => Outcome::Unreadable,
        None => Outcome::Nothing,
    })
}

/// One reading: lines one below the other.
type Reading = Vec<ReadLine>;

/// A line as it was read.
#[derive(Clone, Debug)]
struct ReadLine {
    text: String,
    confidence: f64,
    /// Whether its fillers were found by their shape, and not guessed.
    by_cells: bool,
}

impl ReadLine {
    fn of(line: &Line) -> Self {
        Self {
            text: packed(&line.text),
            confidence: line.confidence,
            by_cells: false,
        }
    }

    /// What it weighs against other readings of the same line.
    fn weight(&self) -> f64 {
        let confidence = self.confidence.max(0.01);
        if self.by_cells {
            2.0 + confidence
        } else {
            confidence
        }
    }
}

/// Reads a crop at several sizes; where lines like a zone's appear, reads them again, cut out and brought to size.
fn readings(
    ocr: &dyn Ocr,
    languages: &[&str],
    crop: &GrayImage,
) -> Result<Vec<Reading>, EngineError> {
    let mut readings = Vec::new();
    for width in [1800.0, 1200.0] {
        let factor = width / f64::from(crop.width());
        let sized = raster::scaled(crop, factor);
        let mut zones: Vec<[f64; 4]> = Vec::new();
        for language in languages {
            let lines = ocr.read_block(&sized, language, CHARACTERS)?.lines;
            for group in groups(&lines) {
                readings.push(group.iter().map(ReadLine::of).collect());
                zones.extend(around(group));
            }
        }
        let Some(zone) = zones
            .into_iter()
            .max_by(|a, b| (a[2] * a[3]).total_cmp(&(b[2] * b[3])))
        else {
            continue;
        };
        for (target, even) in [
            (34.0, false),
            (44.0, false),
            (34.0, true),
            (26.0, false),
            (44.0, true),
        ] {
            let cut = cut(crop, zone.map(|pixels| pixels / factor), target);
            let cut = if even { raster::evened(&cut).0 } else { cut };
            for language in languages {
                let lines = ocr.read_block(&cut, language, CHARACTERS)?.lines;
                let lines: Reading = lines
                    .iter()
                    .map(ReadLine::of)
                    .filter(|line| line.text.len() >= 20)
                    .collect();
                if lines.len() >= 2 {
                    readings.push(lines);
                }
                if let Some(lines) = by_cells(ocr, language, &cut)? {
                    readings.push(lines);
                }
            }
        }
        if best_zone(&readings).is_some_and(|found| found.zone.all_right()) {
            break;
        }
    }
    Ok(readings)
}

/// Reads a zone cell by cell; none where its lines do not fall into cells.
fn by_cells(
    ocr: &dyn Ocr,
    language: &str,
    cut: &GrayImage,
) -> Result<Option<Reading>, EngineError> {
    let Some((cleaned, rows)) = cells::without_fillers(cut) else {
        return Ok(None);
    };
    let mut reading = Reading::new();
    for row in rows {
        // A line by itself, so that what was read cannot be another's.
        let height = row.span.1 - row.span.0;
        let top = row.span.0.saturating_sub(height / 3);
        let bottom = (row.span.1 + height / 3).min(cleaned.height());
        let line = imageops::crop_imm(&cleaned, 0, top, cleaned.width(), bottom - top).to_image();
        let read = ocr.read_block(&line, language, CHARACTERS)?;
        if let Some(text) = row.filled(&packed(&read.text)) {
            let confidence = read.confidence;
            reading.push(ReadLine {
                text,
                confidence,
                by_cells: true,
            });
        }
    }
    Ok((reading.len() >= 2).then_some(reading))
}

/// The zone that the readings agree on best. Lines are taken from different readings where that makes more check digits right.
fn best_zone(readings: &[Reading]) -> Option<Found> {
    let mut best: Option<Found> = None;
    for format in Format::ALL {
        let (count, width) = format.size();
        // For each line of the format, what was read there.
        let mut read: Vec<BTreeMap<String, Support>> = vec![BTreeMap::new(); count];
        let mut times = 0;
        for reading in readings {
            for window in reading.windows(count) {
                if !plausible(format, window) {
                    continue;
                }
                times += 1;
                for (row, line) in window.iter().enumerate() {
                    let mut fits = repair::fitted(&line.text, width);
                    // No check digit can choose between ways to fit a line of names: the longest run of fillers it is.
                    let guarded = format
                        .checks()
                        .iter()
                        .any(|check| check.over.iter().any(|span| span.0 == row));
                    fits.truncate(if guarded { 12 } else { 1 });
                    let share = line.weight() / fits.len().max(1) as f64;
                    for fit in fits {
                        let support = read[row].entry(canonical(format, row, &fit)).or_default();
                        support.weight += share;
                        support.confidence = support.confidence.max(line.confidence);
                        support.by_cells += usize::from(line.by_cells);
                    }
                }
            }
        }
        let ranked: Vec<Vec<(String, Support)>> = read
            .into_iter()
            .map(|lines| {
                let mut lines: Vec<_> = lines.into_iter().collect();
                lines.sort_by(|a, b| b.1.weight.total_cmp(&a.1.weight));
                lines
            })
            .collect();
        if let Some(found) = combined(format, &ranked, times)
            && best.as_ref().is_none_or(|best| better(&found, best))
        {
            best = Some(found);
        }
    }
    best
}

/// What speaks for one way to read a line.
#[derive(Clone, Copy, Debug, Default)]
struct Support {
    /// The sum of the readings' weights.
    weight: f64,
    /// The highest of their confidences.
    confidence: f64,
    /// How many of them were cell by cell.
    by_cells: usize,
}

/// The combination of lines with the most check digits right; among equals, the one read most.
fn combined(format: Format, ranked: &[Vec<(String, Support)>], readings: usize) -> Option<Found> {
    const MOST: usize = 24;
    let mut picks: Vec<Vec<usize>> = vec![Vec::new()];
    for lines in ranked {
        picks = picks
            .into_iter()
            .flat_map(|pick| {
                (0..lines.len().min(MOST)).map(move |index| {
                    let mut pick = pick.clone();
                    pick.push(index);
                    pick
                })
            })
            .collect();
    }
    let weight = |pick: &[usize]| -> f64 {
        pick.iter()
            .zip(ranked)
            .map(|(index, lines)| lines[*index].1.weight)
            .sum()
    };
    let (zone, pick) = picks
        .into_iter()
        .filter_map(|pick| {
            let lines: Vec<String> = pick
                .iter()
                .zip(ranked)
                .map(|(index, lines)| lines[*index].0.clone())
                .collect();
            Some((format.zone(&lines)?, pick))
        })
        .max_by(|(a, a_pick), (b, b_pick)| {
            a.right()
                .cmp(&b.right())
                .then_with(|| weight(a_pick).total_cmp(&weight(b_pick)))
        })?;
    let agreement = |index: usize, lines: &[(String, Support)]| {
        let by_cells: usize = lines.iter().map(|line| line.1.by_cells).sum();
        if by_cells >= 3 {
            return lines[index].1.by_cells as f64 / by_cells as f64;
        }
        let weight: f64 = lines.iter().map(|line| line.1.weight).sum();
        lines[index].1.weight / weight.max(f64::EPSILON) / 2.0
    };
    let (zone, names_repaired) = with_names_trimmed(zone);
    Some(Found {
        confidences: pick
            .iter()
            .zip(ranked)
            .map(|(index, lines)| lines[*index].1.confidence)
            .collect(),
        agreements: pick
            .iter()
            .zip(ranked)
            .map(|(index, lines)| agreement(*index, lines))
            .collect(),
        zone,
        readings,
        names_repaired,
    })
}

/// The line with its letters put right and its names' fillers too, so that readings that differ in nothing else count as one.
fn canonical(format: Format, row: usize, line: &str) -> String {
    let mut letters: Vec<char> = line.chars().collect();
    for field in format.fields().iter().filter(|field| field.span.0 == row) {
        for letter in &mut letters[field.span.1..field.span.2] {
            *letter = repair::as_alphabet(*letter, field.alphabet);
        }
        if field.name == "name" {
            let names = String::from_iter(&letters[field.span.1..field.span.2]);
            let (trimmed, _) = repair::trimmed_names(&names, true);
            letters.splice(field.span.1..field.span.2, trimmed.chars());
        }
    }
    String::from_iter(letters)
}

fn with_names_trimmed(mut zone: Zone) -> (Zone, bool) {
    let Some(field) = zone
        .format
        .fields()
        .iter()
        .find(|field| field.name == "name")
    else {
        return (zone, false);
    };
    let (trimmed, changed) = repair::trimmed_names(zone.raw("name"), true);
    if let Some(line) = zone.lines.get_mut(field.span.0) {
        line.replace_range(field.span.1..field.span.2, &trimmed);
    }
    (zone, changed)
}

fn plausible(format: Format, window: &[ReadLine]) -> bool {
    let (_, width) = format.size();
    window.iter().all(|line| {
        let length = line.text.len();
        line.text.is_ascii() && length + 7 >= width && length <= width + 7
    })
}

fn better(a: &Found, b: &Found) -> bool {
    let share = |found: &Found| found.zone.right() as f64 / found.zone.format.checks().len() as f64;
    let sum = |found: &Found| {
        found.confidences.iter().sum::<f64>() / found.confidences.len().max(1) as f64
    };
    (share(a), a.zone.right(), sum(a)) > (share(b), b.zone.right(), sum(b))
}

/// The runs of neighbouring lines that look like a zone's: long, without spaces, with fillers.
fn groups(lines: &[Line]) -> Vec<&[Line]> {
    lines
        .chunk_by(|a, b| zone_like(a) && zone_like(b))
        .filter(|group| group.len() >= 2 && group.iter().all(zone_like))
        .filter(|group| {
            group
                .iter()
                .map(|line| line.text.matches('<').count())
                .sum::<usize>()
                >= 4
        })
        .collect()
}

fn zone_like(line: &Line) -> bool {
    let length = packed(&line.text).len();
    (23..=56).contains(&length) && line.text.split(' ').count() <= 8
}

fn packed(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_whitespace())
        .collect()
}

/// The box around lines: left, top, width, height.
fn around(lines: &[Line]) -> Option<[f64; 4]> {
    let boxes: Vec<[f64; 4]> = lines.iter().filter_map(|line| line.bounds).collect();
    let left = boxes.iter().map(|bounds| bounds[0]).reduce(f64::min)?;
    let top = boxes.iter().map(|bounds| bounds[1]).reduce(f64::min)?;
    let right = boxes
        .iter()
        .map(|bounds| bounds[0] + bounds[2])
        .reduce(f64::max)?;
    let bottom = boxes
        .iter()
        .map(|bounds| bounds[1] + bounds[3])
        .reduce(f64::max)?;
    Some([left, top, right - left, bottom - top])
}

/// The zone cut out with a margin, so scaled that a character is about `target` pixels wide and high.
fn cut(picture: &GrayImage, [left, top, width, height]: [f64; 4], target: f64) -> GrayImage {
    // A third line above or below may have been missed; a zone is 8 to 20 times as wide as a line is high.
    let margin = (height * 0.6).max(width / 30.0);
    // OCR often sees no text in the fillers at a line's end.
    let x = (left - width / 12.0).max(0.0);
    let y = (top - margin).max(0.0);
    let right = (left + width * 1.35).min(f64::from(picture.width()));
    let bottom = (top + height + margin).min(f64::from(picture.height()));
    let cut = imageops::crop_imm(
        picture,
        x as u32,
        y as u32,
        (right - x).max(1.0) as u32,
        (bottom - y).max(1.0) as u32,
    )
    .to_image();
    // Characters stand 44, 36 or 30 to a line; by the line's height that is told apart well enough.
    let per_line = if width / height.max(1.0) > 9.0 {
        44.0
    } else {
        36.0
    };
    let factor = (target * per_line / width.max(1.0)).clamp(0.2, 6.0);
    raster::scaled(&cut, factor)
}

fn bottom(picture: &GrayImage) -> GrayImage {
    let height = (picture.height() * 45 / 100).max(1);
    imageops::crop_imm(
        picture,
        0,
        picture.height() - height,
        picture.width(),
        height,
    )
    .to_image()
}
