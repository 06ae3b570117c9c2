//! What is done to a picture before it is read: turning, straightening, scaling, evening out its light.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma};

const WHITE: Luma<u8> = Luma([255]);

/// The directions in which a picture's lines of text can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Lines run across: the picture stands upright or on its head.
    Across,
    /// Lines run up or down: the picture lies on its side.
    Along,
}

/// How a picture's lines of text lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lay {
    /// The direction.
    pub(crate) axis: Axis,
    /// How many times more clearly the lines stand out in that direction than in the other; 1 where it is unclear.
    pub(crate) clarity: f64,
    /// The degrees by which the picture must be turned clockwise for its lines to run straight.
    pub(crate) skew: f64,
}

/// The picture turned clockwise by 0, 90, 180 or 270 degrees.
pub(crate) fn turned(picture: &GrayImage, degrees: u16) -> GrayImage {
    match degrees {
        90 => imageops::rotate90(picture),
        180 => imageops::rotate180(picture),
        270 => imageops::rotate270(picture),
        _ => picture.clone(),
    }
}

/// The picture turned clockwise by a small angle around its middle, on a canvas that holds all of it, with white corners.
pub(crate) fn straightened(picture: &GrayImage, degrees: f64) -> GrayImage {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let new_width = (width * cos.abs() + height * sin.abs()).ceil();
    let new_height = (width * sin.abs() + height * cos.abs()).ceil();
    let mut straight = GrayImage::from_pixel(new_width as u32, new_height as u32, WHITE);
    let (columns, rows) = (picture.width() as usize, picture.height() as usize);
    let pixels = picture.as_raw();
    let pixel = |x: i64, y: i64| -> f64 {
        if x < 0 || y < 0 || x >= columns as i64 || y >= rows as i64 {
            return 255.0;
        }
        f64::from(pixels[y as usize * columns + x as usize])
    };
    for (row, line) in straight
        .as_mut()
        .chunks_exact_mut(new_width as usize)
        .enumerate()
    {
        let down = row as f64 + 0.5 - new_height / 2.0;
        for (column, target) in line.iter_mut().enumerate() {
            let right = column as f64 + 0.5 - new_width / 2.0;
            let x = right * cos + down * sin + width / 2.0 - 0.5;
            let y = down * cos - right * sin + height / 2.0 - 0.5;
            let (left, top) = (x.floor(), y.floor());
            let (dx, dy) = (x - left, y - top);
            let (left, top) = (left as i64, top as i64);
            let upper = pixel(left, top) * (1.0 - dx) + pixel(left + 1, top) * dx;
            let lower = pixel(left, top + 1) * (1.0 - dx) + pixel(left + 1, top + 1) * dx;
            *target = (upper * (1.0 - dy) + lower * dy).round() as u8;
        }
    }
    straight
}

/// Where a box of the straightened picture lies in the picture as it was: the upright box around what is then a slanted one. Both sizes are
/// as the page was turned upright after that; turns by right angles do not change the sum.
pub(crate) fn slanted(
    [x, y, width, height]: [f64; 4],
    degrees: f64,
    straight: (f64, f64),
    original: (f64, f64),
) -> [f64; 4] {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let right = x + width / 2.0 - straight.0 / 2.0;
    let down = y + height / 2.0 - straight.1 / 2.0;
    let middle = (
        right * cos + down * sin + original.0 / 2.0,
        down * cos - right * sin + original.1 / 2.0,
    );
    let half = (
        (width * cos.abs() + height * sin.abs()) / 2.0,
        (width * sin.abs() + height * cos.abs()) / 2.0,
    );
    let left = (middle.0 - half.0).clamp(0.0, original.0);
    let top = (middle.1 - half.1).clamp(0.0, original.1);
    [
        left,
        top,
        (middle.0 + half.0).clamp(left, original.0) - left,
        (middle.1 + half.1).clamp(top, original.1) - top,
    ]
}

/// The picture scaled by a factor, at least one pixel wide and high.
pub(crate) fn scaled(picture: &GrayImage, factor: f64) -> GrayImage {
    let side = |pixels: u32| ((f64::from(pixels) * factor).round() as u32).max(1);
    // CatmullRom keeps edges of strokes sharp when enlarging; Triangle averages when reducing.
    let filter = if factor > 1.0 {
        FilterType::CatmullRom
    } else {
        FilterType::Triangle
    };
    imageops::resize(
        picture,
        side(picture.width()),
        side(picture.height()),
        filter,
    )
}

/// The picture reduced so that its longer side is at most `longest`, with the factor used.
pub(crate) fn reduced(picture: &GrayImage, longest: u32) -> (GrayImage, f64) {
    let side = picture.width().max(picture.height());
    if side <= longest {
        return (picture.clone(), 1.0);
    }
    let factor = f64::from(longest) / f64::from(side);
    (scaled(picture, factor), factor)
}

/// Dark writing on light ground: the picture itself, or its negative where it is light on dark.
pub(crate) fn dark_on_light(picture: &GrayImage) -> Option<GrayImage> {
    let histogram = histogram(picture);
    let half = picture.as_raw().len() / 2;
    let mut seen = 0;
    let median = histogram.iter().position(|count| {
        seen += count;
        seen > half
    })?;
    (median < 90).then(|| {
        let mut negative = picture.clone();
        imageops::invert(&mut negative);
        negative
    })
}

/// The picture divided by its background, so that shadows and uneven light go; and how uneven the light was, 0 for even.
pub(crate) fn evened(picture: &GrayImage) -> (GrayImage, f64) {
    let (background, columns, cell) = background(picture);
    let rows = background.len() / columns;
    let mut sorted = background.clone();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f64| f64::from(sorted[((sorted.len() - 1) as f64 * share) as usize]);
    let unevenness = (at(0.95) - at(0.10)) / at(0.95).max(1.0);
    let mut even = picture.clone();
    let width = picture.width() as usize;
    // Where each pixel's column lies between the cells' middles.
    let place = |index: usize, count: usize| {
        let at = ((index as f32 + 0.5) / cell as f32 - 0.5).clamp(0.0, (count - 1) as f32);
        let first = (at as usize).min(count.saturating_sub(2));
        (first, (first + 1).min(count - 1), at - first as f32)
    };
    let across: Vec<_> = (0..width).map(|column| place(column, columns)).collect();
    for (row, line) in even.as_mut().chunks_exact_mut(width).enumerate() {
        let (upper, lower, down) = place(row, rows);
        for (pixel, (left, right, along)) in line.iter_mut().zip(&across) {
            let top = background[upper * columns + left] * (1.0 - along)
                + background[upper * columns + right] * along;
            let bottom = background[lower * columns + left] * (1.0 - along)
                + background[lower * columns + right] * along;
            let ground = (top * (1.0 - down) + bottom * down).max(1.0);
            *pixel = (f32::from(*pixel) / ground * 250.0).min(255.0) as u8;
        }
    }
    (even, unevenness)
}

/// How the lines of text lie, from how sharply ink and gaps alternate at each angle.
pub(crate) fn lay(picture: &GrayImage) -> Lay {
    let (small, _) = reduced(picture, 1000);
    let points = ink(&small);
    let unclear = Lay {
        axis: Axis::Across,
        clarity: 1.0,
        skew: 0.0,
    };
    // In a few letters, chance speaks louder than the line that they stand on.
    let letters = components(&small)
        .into_iter()
        .filter(|bounds| is_letter(*bounds, small.height()))
        .count();
    if letters < 12 {
        return unclear;
    }
    let sides: Vec<(f32, f32)> = points.iter().map(|(x, y)| (*y, -x)).collect();
    let span = (small.width() + small.height()) as usize;
    let best = |points: &[(f32, f32)]| {
        let mut best = (0.0_f64, 0.0_f64);
        let mut sum = 0.0;
        for step in -30..=30 {
            let angle = f64::from(step) * 0.5;
            let sharpness = sharpness(points, angle, span);
            sum += sharpness;
            // A tie goes to the smaller angle.
            if sharpness
                > best.1
                    * if angle.abs() < f64::abs(best.0) {
                        0.999
                    } else {
                        1.001
                    }
            {
                best = (angle, sharpness);
            }
        }
        let coarse = best.0;
        for step in -9..=9 {
            let angle = coarse + f64::from(step) * 0.05;
            let sharpness = sharpness(points, angle, span);
            if sharpness > best.1 {
                best = (angle, sharpness);
            }
        }
        (best.0, best.1, best.1 / (sum / 61.0).max(1.0))
    };
    let (across, along) = (best(&points), best(&sides));
    let (axis, (angle, sharp, peak), other) = if across.1 >= along.1 {
        (Axis::Across, across, along.1)
    } else {
        (Axis::Along, along, across.1)
    };
    // A flat profile has no lines to go by: then nothing is turned.
    let skew = if peak < 1.3 || angle.abs() < 0.1 {
        0.0
    } else {
        -angle
    };
    Lay {
        axis,
        clarity: sharp / other.max(1.0),
        skew,
    }
}

/// The median height of what looks like letters, in pixels; none where there are too few.
pub(crate) fn letter_height(picture: &GrayImage) -> Option<f64> {
    let mut heights: Vec<u32> = components(picture)
        .into_iter()
        .filter(|bounds| is_letter(*bounds, picture.height()))
        .map(|[_, top, _, bottom]| bottom - top)
        .collect();
    if heights.len() < 5 {
        return None;
    }
    heights.sort_unstable();
    // By weight and not by number: specks outnumber letters on a noisy scan.
    let mut rest = heights.iter().sum::<u32>() / 2;
    heights
        .into_iter()
        .find(|height| {
            let reached = rest <= *height;
            rest = rest.saturating_sub(*height);
            reached
        })
        .map(f64::from)
}

fn is_letter([left, top, right, bottom]: [u32; 4], page_height: u32) -> bool {
    let (width, height) = (right - left, bottom - top);
    height >= 4
        && width >= 2
        && width <= height * 4
        && height <= width * 8
        && height <= page_height / 4 + 8
}

/// The boxes (left, top, right, bottom; ends excluded) of the connected patches of ink.
pub(crate) fn components(picture: &GrayImage) -> Vec<[u32; 4]> {
    let (even, _) = evened(picture);
    let limit = ink_limit(&even);
    let width = even.width() as usize;
    let mut boxes: Vec<[u32; 4]> = Vec::new();
    let mut parents: Vec<usize> = Vec::new();
    let mut above: Vec<(u32, u32, usize)> = Vec::new();
    for (row, line) in even.as_raw().chunks_exact(width).enumerate() {
        let row = row as u32;
        let mut runs = Vec::new();
        let mut column = 0;
        let mut first = 0;
        while column < width {
            if line[column] >= limit {
                column += 1;
                continue;
            }
            let start = column as u32;
            while column < width && line[column] < limit {
                column += 1;
            }
            let end = column as u32;
            let mut label = None;
            while first < above.len() && above[first].1 < start {
                first += 1;
            }
            for (left, _, other) in above[first..].iter().take_while(|(left, ..)| *left <= end) {
                debug_assert!(*left <= end);
                let other = root(&mut parents, *other);
                match label {
                    None => label = Some(other),
                    Some(mine) if mine != other => {
                        parents[other] = mine;
                        let gone = boxes[other];
                        grow(&mut boxes[mine], gone);
                    }
                    Some(_) => {}
                }
            }
            let bounds = [start, row, end, row + 1];
            let label = label.unwrap_or_else(|| {
                parents.push(parents.len());
                boxes.push(bounds);
                parents.len() - 1
            });
            grow(&mut boxes[label], bounds);
            runs.push((start, end, label));
        }
        above = runs;
    }
    (0..boxes.len())
        .filter(|index| parents[*index] == *index)
        .map(|index| boxes[index])
        .collect()
}

fn grow(bounds: &mut [u32; 4], other: [u32; 4]) {
    *bounds = [
        bounds[0].min(other[0]),
        bounds[1].min(other[1]),
        bounds[2].max(other[2]),
        bounds[3].max(other[3]),
    ];
}

fn root(parents: &mut [usize], mut label: usize) -> usize {
    while parents[label] != label {
        parents[label] = parents[parents[label]];
        label = parents[label];
    }
    label
}

/// The sum of squared differences between neighbouring lines' ink, seen at an angle (degrees, clockwise).
fn sharpness(points: &[(f32, f32)], angle: f64, span: usize) -> f64 {
    let slope = (-angle).to_radians().tan() as f32;
    let mut profile = vec![0_u32; span * 2];
    for (x, y) in points {
        let row = (y + x * slope) as i64 + span as i64;
        if let Some(count) = usize::try_from(row)
            .ok()
            .and_then(|row| profile.get_mut(row))
        {
            *count += 1;
        }
    }
    profile
        .windows(2)
        .map(|pair| (f64::from(pair[0]) - f64::from(pair[1])).powi(2))
        .sum()
}

/// The places of ink, from the picture's middle.
fn ink(picture: &GrayImage) -> Vec<(f32, f32)> {
    let (even, _) = evened(picture);
    let limit = ink_limit(&even);
    let (middle_x, middle_y) = (even.width() as f32 / 2.0, even.height() as f32 / 2.0);
    // A frame of dark table or scanner lid has no lines: leave the border out.
    let (edge_x, edge_y) = (even.width() / 50, even.height() / 50);
    even.enumerate_pixels()
        .filter(|(x, y, pixel)| {
            pixel.0[0] < limit
                && (edge_x..even.width() - edge_x).contains(x)
                && (edge_y..even.height() - edge_y).contains(y)
        })
        .map(|(x, y, _)| (x as f32 - middle_x, y as f32 - middle_y))
        .collect()
}

/// The grey below which a pixel of an evened picture is ink: Otsu's, over what is not black, because a dark frame around a page
/// would hide its faint print.
fn ink_limit(even: &GrayImage) -> u8 {
    const BLACK: usize = 90;
    let histogram = histogram(even);
    let greys = || {
        histogram
            .iter()
            .enumerate()
            .skip(BLACK)
            .map(|(grey, count)| (grey as f64, *count as f64))
    };
    let (total, sum) = greys().fold((0.0, 0.0), |(total, sum), (grey, count)| {
        (total + count, sum + grey * count)
    });
    let (mut below, mut below_sum, mut best, mut limit) = (0.0, 0.0, 0.0, 200.0);
    for (grey, count) in greys() {
        below += count;
        below_sum += grey * count;
        let above = total - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let between = below * above * (below_sum / below - (sum - below_sum) / above).powi(2);
        if between > best {
            best = between;
            limit = grey;
        }
    }
    (limit as u8).clamp(130, 215)
}

fn histogram(picture: &GrayImage) -> [usize; 256] {
    let mut histogram = [0; 256];
    for grey in picture.as_raw() {
        histogram[usize::from(*grey)] += 1;
    }
    histogram
}

/// The background's grey on a coarse grid: each cell's light end, carried over cells that ink fills, smoothed. With the number of
/// columns, and the cell's side in pixels.
fn background(picture: &GrayImage) -> (Vec<f32>, usize, usize) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let cell = (width.max(height) / 64).clamp(8, 64);
    let (columns, rows) = (width.div_ceil(cell).max(1), height.div_ceil(cell).max(1));
    let pixels = picture.as_raw();
    let mut grid = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        for column in 0..columns {
            let mut greys = Vec::with_capacity(cell * cell);
            for line in row * cell..((row + 1) * cell).min(height) {
                let start = line * width + column * cell;
                let end = line * width + ((column + 1) * cell).min(width);
                greys.extend_from_slice(&pixels[start..end]);
            }
            let place = (greys.len() - 1) * 85 / 100;
            let (_, light, _) = greys.select_nth_unstable(place);
            grid.push(f32::from(*light));
        }
    }
    // The lightest of the neighbours, then the mean: a headline in heavy type is no shadow.
    let around =
        |grid: &[f32], reach: usize, join: &dyn Fn(&mut dyn Iterator<Item = f32>) -> f32| {
            let mut joined = Vec::with_capacity(grid.len());
            for row in 0..rows {
                for column in 0..columns {
                    let lines = row.saturating_sub(reach)..(row + reach + 1).min(rows);
                    let places = column.saturating_sub(reach)..(column + reach + 1).min(columns);
                    let mut cells = lines.flat_map(|line| {
                        places
                            .clone()
                            .map(move |place| grid[line * columns + place])
                    });
                    joined.push(join(&mut cells));
                }
            }
            joined
        };
    let lightest = around(&grid, 1, &|cells| cells.fold(1.0, f32::max));
    let smooth = around(&lightest, 1, &|cells| {
        let (sum, count) = cells.fold((0.0, 0.0_f32), |(sum, count), grey| {
            (sum + grey, count + 1.0)
        });
        sum / count.max(1.0)
    });
    (smooth, columns, cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve lines of dashes, like words.
    fn lines() -> GrayImage {
        GrayImage::from_fn(600, 800, |x, y| {
            let (in_line, in_word) = (
                y % 50 < 12 && (100..700).contains(&y),
                x % 16 < 10 && (60..540).contains(&x),
            );
            Luma([if in_line && in_word { 20 } else { 240 }])
        })
    }

    #[test]
    fn four_quarter_turns_give_the_picture_back() {
        let picture = lines();
        let turns = (0..4).fold(picture.clone(), |picture, _| turned(&picture, 90));
        assert_eq!(turns, picture);
        assert_eq!(turned(&turned(&picture, 90), 270), picture);
    }

    #[test]
    fn skew_is_found_and_straightened_to_within_a_tenth_of_a_degree() {
        for skew in [-9.0, -3.0, 0.0, 1.5, 6.0] {
            let found = lay(&straightened(&lines(), skew));
            assert!(
                (found.skew + skew).abs() <= 0.11,
                "turned by {skew}: {found:?}"
            );
            assert_eq!(found.axis, Axis::Across, "turned by {skew}: {found:?}");
        }
        let side = lay(&turned(&straightened(&lines(), 2.0), 90));
        assert_eq!(side.axis, Axis::Along);
        assert!((side.skew + 2.0).abs() <= 0.11, "{side:?}");
    }

    #[test]
    fn a_box_of_the_straightened_picture_is_found_again_in_the_picture() {
        let picture = GrayImage::from_fn(600, 800, |x, y| {
            let marked = (100..160).contains(&x) && (650..680).contains(&y);
            Luma([if marked { 0 } else { 255 }])
        });
        for (skew, degrees) in [(4.0, 0), (-7.0, 0), (2.5, 90), (-1.0, 180), (3.0, 270)] {
            let straight = turned(&straightened(&picture, skew), degrees);
            let upright = turned(&picture, degrees);
            let size = |picture: &GrayImage| {
                let (width, height) = picture.dimensions();
                (f64::from(width), f64::from(height))
            };
            let [x, y, width, height] =
                slanted(dark(&straight), skew, size(&straight), size(&upright));
            let [left, top, wide, high] = dark(&upright);
            let spare = [
                left - x,
                top - y,
                x + width - left - wide,
                y + height - top - high,
            ];
            assert!(
                spare.iter().all(|side| (-1.0..12.0).contains(side)),
                "{skew} and {degrees}: {spare:?}"
            );
        }
    }

    /// The box of what is dark.
    fn dark(picture: &GrayImage) -> [f64; 4] {
        let dark = picture
            .enumerate_pixels()
            .filter(|(.., pixel)| pixel.0[0] < 128);
        let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
        for (x, y, _) in dark {
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(y), bottom.max(y + 1));
        }
        [left, top, right - left, bottom - top].map(f64::from)
    }

    #[test]
    fn evening_takes_a_shadow_out() {
        let mut shadowed = lines();
        for (x, _, pixel) in shadowed.enumerate_pixels_mut() {
            pixel.0[0] = (f32::from(pixel.0[0]) * (1.0 - x as f32 / 1000.0)) as u8;
        }
        let (even, unevenness) = evened(&shadowed);
        assert!(unevenness > 0.3, "{unevenness}");
        let ground = |x| even.get_pixel(x, 30).0[0];
        assert!(
            ground(20).abs_diff(ground(580)) < 12,
            "{} and {}",
            ground(20),
            ground(580)
        );
        assert!(evened(&lines()).1 < 0.05);
    }

    #[test]
    fn letters_are_measured_by_their_height() {
        assert_eq!(letter_height(&lines()), Some(12.0));
        assert_eq!(letter_height(&GrayImage::from_pixel(300, 300, WHITE)), None);
    }

    #[test]
    fn light_writing_on_dark_ground_is_turned_into_dark_on_light() {
        let mut negative = lines();
        imageops::invert(&mut negative);
        assert_eq!(dark_on_light(&negative), Some(lines()));
        assert_eq!(dark_on_light(&lines()), None);
    }
}
