//! The zone's characters by their places: OCR-B stands in cells of one width, and its filler has a shape that is told apart without OCR.
//!
//! OCR made for running text takes single fillers for letters (`ANNA<MARIA` for `ANNAKMARIA`). So the fillers are found by their shape and
//! painted over, and OCR reads the words that are left; each character then goes back to its cell.

use image::{GrayImage, Luma};

use crate::ocr::raster;

/// One line of the zone, cell by cell.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Upper and lower edge, in pixels.
    pub(super) span: (u32, u32),
    /// For each cell, whether it holds a filler.
    pub(super) fillers: Vec<bool>,
}

/// The zone's lines, and the picture without fillers; none where no lines of cells are found.
pub(super) fn without_fillers(picture: &GrayImage) -> Option<(GrayImage, Vec<Row>)> {
    let mut boxes: Vec<[u32; 4]> = raster::components(picture)
        .into_iter()
        .filter(|bounds| bounds[3] - bounds[1] >= 6)
        .collect();
    let height = median(
        boxes
            .iter()
            .map(|bounds| f64::from(bounds[3] - bounds[1]))
            .collect(),
    )?;
    boxes.retain(|bounds| {
        let (wide, high) = (
            f64::from(bounds[2] - bounds[0]),
            f64::from(bounds[3] - bounds[1]),
        );
        (0.5 * height..1.7 * height).contains(&high) && wide <= 2.2 * height
    });
    let middle = |bounds: &[u32; 4]| f64::from(bounds[1] + bounds[3]) / 2.0;
    boxes.sort_by(|a, b| middle(a).total_cmp(&middle(b)));
    let mut cleaned = picture.clone();
    let mut rows = Vec::new();
    for line in boxes.chunk_by(|a, b| middle(b) - middle(a) < 0.35 * height) {
        if let Some((row, fillers)) = row(picture, line) {
            for bounds in fillers {
                paint(&mut cleaned, bounds);
            }
            rows.push(row);
        }
    }
    (!rows.is_empty()).then_some((cleaned, rows))
}

impl Row {
    /// The line with its characters in their cells; none where their number is another.
    pub(super) fn filled(&self, letters: &str) -> Option<String> {
        let places = self.fillers.iter().filter(|filler| !**filler).count();
        let letters = without_doubles(letters, places);
        if letters.len() != places {
            return None;
        }
        let mut letters = letters.into_iter();
        self.fillers
            .iter()
            .map(|filler| if *filler { Some('<') } else { letters.next() })
            .collect()
    }
}

/// The characters, where there are more than places without those of which OCR could not choose between two likenesses and gave both.
fn without_doubles(letters: &str, places: usize) -> Vec<char> {
    const LIKE: [&str; 7] = ["0OQD", "1IL", "2Z", "5S", "6G", "8B", "7T"];
    let mut letters: Vec<char> = letters.chars().collect();
    let mut index = 1;
    while letters.len() > places && index < letters.len() {
        let (before, here) = (letters[index - 1], letters[index]);
        if before != here
            && LIKE
                .iter()
                .any(|like| like.contains(before) && like.contains(here))
        {
            letters.remove(index);
        } else {
            index += 1;
        }
    }
    letters
}

/// A line's cells, and the boxes of its fillers.
fn row(picture: &GrayImage, line: &[[u32; 4]]) -> Option<(Row, Vec<[u32; 4]>)> {
    let mut boxes = line.to_vec();
    boxes.sort_by_key(|bounds| bounds[0]);
    if boxes.len() < 20 {
        return None;
    }
    let middle = |bounds: &[u32; 4]| f64::from(bounds[0] + bounds[2]) / 2.0;
    let mut pitch = median(
        boxes
            .windows(2)
            .map(|pair| middle(&pair[1]) - middle(&pair[0]))
            .collect(),
    )?;
    // Characters' places by steps from one to the next, then the straight line through them.
    let mut places: Vec<f64> = Vec::with_capacity(boxes.len());
    for _ in 0..2 {
        places = vec![0.0];
        for pair in boxes.windows(2) {
            let step = ((middle(&pair[1]) - middle(&pair[0])) / pitch).round();
            places.push(places.last().copied().unwrap_or(0.0) + step);
        }
        let (first, last) = (boxes.first()?, boxes.last()?);
        let count = places.last().copied().filter(|count| *count >= 20.0)?;
        pitch = (middle(last) - middle(first)) / count;
    }
    let count = places.last().copied()? as usize + 1;
    if count > 60 {
        return None;
    }
    let mut cells: Vec<Option<[u32; 4]>> = vec![None; count];
    for (bounds, place) in boxes.iter().zip(&places) {
        let cell = cells.get_mut(*place as usize)?;
        *cell = Some(cell.map_or(*bounds, |other| {
            [
                bounds[0].min(other[0]),
                bounds[1].min(other[1]),
                bounds[2].max(other[2]),
                bounds[3].max(other[3]),
            ]
        }));
    }
    let fillers: Vec<bool> = cells
        .iter()
        .map(|cell| cell.is_some_and(|bounds| is_filler(picture, bounds)))
        .collect();
    let painted = cells
        .iter()
        .zip(&fillers)
        .filter(|(_, filler)| **filler)
        .filter_map(|(cell, _)| *cell)
        .collect();
    let top = boxes.iter().map(|bounds| bounds[1]).min()?;
    let bottom = boxes.iter().map(|bounds| bounds[3]).max()?;
    Some((
        Row {
            span: (top, bottom),
            fillers,
        },
        painted,
    ))
}

/// Whether a patch is a `<`: one stroke in each row, at the right above, at the left in the middle, at the right below.
fn is_filler(picture: &GrayImage, [left, top, right, bottom]: [u32; 4]) -> bool {
    let (width, height) = (f64::from(right - left), f64::from(bottom - top));
    if width < 4.0 || height < 6.0 || width > 1.5 * height || height > 2.2 * width {
        return false;
    }
    let greys =
        (top..bottom).flat_map(|y| (left..right).map(move |x| picture.get_pixel(x, y).0[0]));
    let (dark, light) = greys.fold((255, 0), |(dark, light), grey: u8| {
        (dark.min(grey), light.max(grey))
    });
    let limit = (u16::from(dark) + u16::from(light)) / 2;
    let (mut off, mut rows, mut forked) = (0.0, 0.0, 0.0);
    for y in top..bottom {
        let ink: Vec<f64> = (left..right)
            .filter(|x| u16::from(picture.get_pixel(*x, y).0[0]) < limit)
            .map(|x| f64::from(x - left) + 0.5)
            .collect();
        let (Some(first), Some(last)) = (ink.first(), ink.last()) else {
            continue;
        };
        rows += 1.0;
        let away = (2.0 * (f64::from(y - top) + 0.5) / height - 1.0).abs();
        let stroke = 0.2;
        let expected = stroke / 2.0 + away * (1.0 - stroke);
        off += ((first + last) / 2.0 / width - expected).abs();
        // Two strokes in a row, or one that is far too wide.
        if last - first > 0.55 * width {
            forked += 1.0;
        }
    }
    rows >= 0.8 * height && off / rows < 0.15 && forked / rows < 0.25
}

fn paint(picture: &mut GrayImage, [left, top, right, bottom]: [u32; 4]) {
    let light = (left.saturating_sub(2)..(right + 2).min(picture.width()))
        .flat_map(|x| {
            [
                top.saturating_sub(2),
                (bottom + 1).min(picture.height() - 1),
            ]
            .map(|y| picture.get_pixel(x, y).0[0])
        })
        .max()
        .unwrap_or(255);
    for y in top.saturating_sub(1)..(bottom + 1).min(picture.height()) {
        for x in left.saturating_sub(1)..(right + 1).min(picture.width()) {
            picture.put_pixel(x, y, Luma([light]));
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
