//! From glyphs to lines in reading order.
//!
//! Glyphs that follow each other become segments; segments on one baseline a row; rows are read from the top, and where a gutter
//! runs through several rows of prose, column by column. Everything is measured in fractions of the font size.

use hayro::kurbo::{Point, Rect};
use linkspan_model::answer::Line;
use unicode_normalization::char::is_combining_mark;

use super::direction;
use super::glyphs::{Glyph, turned};

/// A page's text layer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Text {
    /// The text, lines ended by `\n`, paragraphs apart by a blank line.
    pub(super) text: String,
    /// The lines.
    pub(super) lines: Vec<Line>,
}

/// Puts a page's glyphs into lines.
pub(super) fn arrange(glyphs: &[Glyph]) -> Text {
    let mut text = Text::default();
    for frame in frames(glyphs) {
        let rightward = direction::is_right_to_left(
            &frame
                .pieces
                .iter()
                .map(|piece| piece.text.as_str())
                .collect::<String>(),
        );
        let mut printed: Vec<Printed> = Vec::new();
        for row in read_order(segments(frame.pieces), rightward) {
            printed.extend(print(&row, rightward));
        }
        let pitch = usual_pitch(&printed);
        for (index, line) in printed.iter().enumerate() {
            let apart = match index.checked_sub(1).and_then(|before| printed.get(before)) {
                Some(before) => starts_paragraph(before, line, pitch),
                None => !text.text.is_empty(),
            };
            if apart {
                text.text.push('\n');
            }
            text.text.push_str(&line.text);
            text.text.push('\n');
            text.lines.push(line.to_line(frame.degrees));
        }
    }
    text
}

/// A glyph in the frame in which its line is upright: `left` and `right` along the line, `base` across it, downwards.
#[derive(Clone, Debug)]
struct Piece {
    text: String,
    left: f64,
    right: f64,
    base: f64,
    size: f64,
}

/// The glyphs whose lines run the same way.
struct Frame {
    degrees: f64,
    pieces: Vec<Piece>,
}

/// Sorts the glyphs by the way their lines run; the way of most comes first.
fn frames(glyphs: &[Glyph]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for glyph in glyphs {
        let exact = glyph.advance.atan2().to_degrees();
        let quarter = (exact / 90.0).round() * 90.0;
        let degrees = if (exact - quarter).abs() < 5.0 {
            quarter
        } else {
            exact.round()
        }
        .rem_euclid(360.0);
        let upright = turned(-degrees) * glyph.origin;
        let piece = Piece {
            text: glyph.text.clone(),
            left: upright.x,
            right: upright.x + glyph.advance.hypot(),
            base: upright.y,
            size: glyph.size,
        };
        match frames
            .iter_mut()
            .find(|frame| (frame.degrees - degrees).abs() < 0.5)
        {
            Some(frame) => frame.pieces.push(piece),
            None => frames.push(Frame {
                degrees,
                pieces: vec![piece],
            }),
        }
    }
    frames.sort_by_key(|frame| std::cmp::Reverse(frame.pieces.len()));
    frames
}

/// Glyphs on one baseline without a wide gap.
#[derive(Clone, Debug)]
struct Segment {
    pieces: Vec<Piece>,
    left: f64,
    right: f64,
    base: f64,
    size: f64,
}

impl Segment {
    fn of(piece: Piece) -> Self {
        Self {
            left: piece.left,
            right: piece.right,
            base: piece.base,
            size: piece.size,
            pieces: vec![piece],
        }
    }

    fn add(&mut self, piece: Piece) {
        self.left = self.left.min(piece.left);
        self.right = self.right.max(piece.right);
        self.size = self.size.max(piece.size);
        self.pieces.push(piece);
    }

    fn join(&mut self, other: Self) {
        for piece in other.pieces {
            self.add(piece);
        }
    }

    /// The gap between two segments along the line; negative where they overlap.
    fn gap(&self, other: &Self) -> f64 {
        (other.left - self.right).max(self.left - other.right)
    }

    fn characters(&self) -> usize {
        self.pieces.len()
    }

    fn is_blank(&self) -> bool {
        self.pieces.iter().all(|piece| is_blank(&piece.text))
    }
}

/// Joins glyphs that follow each other in the file and on the page, then segments that touch.
fn segments(pieces: Vec<Piece>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut previous: Option<Piece> = None;
    for piece in pieces {
        let joins = previous
            .as_ref()
            .is_some_and(|before| follows(before, &piece));
        previous = Some(piece.clone());
        match segments.last_mut() {
            Some(segment) if joins => segment.add(piece),
            _ => segments.push(Segment::of(piece)),
        }
    }
    segments.retain(|segment| !segment.is_blank());
    attach_raised(segments)
}

/// Whether a glyph continues the line of the one drawn before it, in either direction.
fn follows(before: &Piece, piece: &Piece) -> bool {
    let (small, large) = (before.size.min(piece.size), before.size.max(piece.size));
    let gap = (piece.left - before.right).max(before.left - piece.right);
    let mark =
        piece.text.chars().all(is_combining_mark) || before.text.chars().all(is_combining_mark);
    let level = if mark { 0.6 } else { 0.25 };
    (piece.base - before.base).abs() <= level * large && small >= 0.6 * large && gap <= WIDE * large
}

/// A gap of this many ems ends a segment.
const WIDE: f64 = 1.0;

/// Lets raised and lowered small print (marks, exponents, footnote numbers) join the line beside which it stands.
fn attach_raised(segments: Vec<Segment>) -> Vec<Segment> {
    let (small, mut large): (Vec<Segment>, Vec<Segment>) = {
        let usual = usual_size(&segments);
        segments.into_iter().partition(|segment| {
            segment.characters() <= 4
                && (segment.size < 0.85 * usual
                    || segment
                        .pieces
                        .iter()
                        .all(|piece| piece.text.chars().all(is_combining_mark)))
        })
    };
    for segment in small {
        let beside = large.iter_mut().find(|line| {
            (segment.base - line.base).abs() <= 0.6 * line.size
                && segment.size <= line.size
                && line.gap(&segment) <= 0.3 * line.size
        });
        match beside {
            Some(line) => line.join(segment),
            None => large.push(segment),
        }
    }
    large
}

fn usual_size(segments: &[Segment]) -> f64 {
    let mut sizes: Vec<f64> = segments
        .iter()
        .flat_map(|segment| segment.pieces.iter().map(|piece| piece.size))
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied().unwrap_or_default()
}

/// The segments of one baseline, from left to right.
type Row = Vec<Segment>;

/// Gathers segments into rows, from the top.
fn rows(mut segments: Vec<Segment>) -> Vec<Row> {
    segments.sort_by(|a, b| a.base.total_cmp(&b.base));
    let mut rows: Vec<Row> = Vec::new();
    for segment in segments {
        // A line that leans has segments whose baselines drift: compare with the nearest segment of the row.
        let row = rows.iter_mut().rev().take(4).find(|row| {
            row.iter()
                .min_by(|a, b| a.gap(&segment).total_cmp(&b.gap(&segment)))
                .is_some_and(|near| {
                    (near.base - segment.base).abs() <= 0.3 * near.size.min(segment.size)
                        && near.gap(&segment) > -0.5 * near.size
                })
        });
        match row {
            Some(row) => row.push(segment),
            None => rows.push(vec![segment]),
        }
    }
    for row in &mut rows {
        row.sort_by(|a, b| a.left.total_cmp(&b.left));
    }
    rows
}

/// Orders segments for reading: rows from the top; where a gutter divides several rows of prose, one column after the other.
fn read_order(segments: Vec<Segment>, rightward: bool) -> Vec<Row> {
    let rows = rows(segments);
    let Some(gutter) = find_gutter(&rows) else {
        return rows;
    };
    let mut ordered = Vec::new();
    let mut band: Vec<Row> = Vec::new();
    for row in rows {
        if crosses(&row, gutter) {
            ordered.extend(columns(std::mem::take(&mut band), gutter, rightward));
            ordered.push(row);
        } else {
            band.push(row);
        }
    }
    ordered.extend(columns(band, gutter, rightward));
    ordered
}

/// Reads rows that a gutter divides: each column on its own where both hold prose, else row by row.
fn columns(band: Vec<Row>, gutter: f64, rightward: bool) -> Vec<Row> {
    if !divides(&band, gutter) {
        return band;
    }
    let (left, right): (Vec<Segment>, Vec<Segment>) = band
        .into_iter()
        .flatten()
        .partition(|segment| segment.right <= gutter);
    let (first, second) = if rightward {
        (right, left)
    } else {
        (left, right)
    };
    let mut ordered = read_order(first, rightward);
    ordered.extend(read_order(second, rightward));
    ordered
}

fn crosses(row: &Row, x: f64) -> bool {
    row.iter()
        .any(|segment| segment.left < x && segment.right > x)
}

/// Whether the two sides of a gutter are read one after the other: both hold prose (several lines, long ones), or one does and the
/// other, a marginal column, keeps to lines of its own. A table's cells are short and share their lines: it is read row by row.
fn divides(rows: &[Row], gutter: f64) -> bool {
    let (left, right): (Vec<&Segment>, Vec<&Segment>) = rows
        .iter()
        .flatten()
        .partition(|segment| segment.right <= gutter);
    let prose = |side: &[&Segment], lines: usize, length: usize| {
        let characters: usize = side.iter().map(|segment| segment.characters()).sum();
        side.len() >= lines && characters >= length * side.len()
    };
    if prose(&left, 3, 20) && prose(&right, 3, 20) {
        return true;
    }
    let fewer = left.len().min(right.len());
    let shared = rows
        .iter()
        .filter(|row| {
            row.iter().any(|segment| segment.right <= gutter)
                && row.iter().any(|segment| segment.right > gutter)
        })
        .count();
    fewer >= 4 && (prose(&left, 5, 30) || prose(&right, 5, 30)) && shared * 3 <= fewer
}

/// Finds the place between columns that the fewest rows cross.
fn find_gutter(rows: &[Row]) -> Option<f64> {
    let all = || rows.iter().flatten();
    let left = all().map(|segment| segment.left).min_by(f64::total_cmp)?;
    let right = all().map(|segment| segment.right).max_by(f64::total_cmp)?;
    // The gaps within rows, and the left edges of segments that stand alone, say where a gutter may be.
    let mut candidates: Vec<f64> = rows
        .iter()
        .flat_map(|row| {
            row.windows(2)
                .filter_map(|pair| Some((pair.first()?.right + pair.get(1)?.left) / 2.0))
        })
        .chain(all().map(|segment| segment.left - 0.3 * segment.size))
        .filter(|&x| x > left + 0.15 * (right - left) && x < right - 0.15 * (right - left))
        .collect();
    candidates.sort_by(f64::total_cmp);
    candidates.dedup_by(|a, b| (*a - *b).abs() < 1.0);
    candidates
        .into_iter()
        .map(|x| (rows.iter().filter(|row| crosses(row, x)).count(), x))
        .filter(|&(crossing, x)| {
            let free: Vec<Row> = rows
                .iter()
                .filter(|row| !crosses(row, x))
                .cloned()
                .collect();
            crossing * 2 <= rows.len() && divides(&free, x)
        })
        .min_by(|a, b| a.0.cmp(&b.0))
        .map(|(_, x)| x)
}

/// A line as it will stand in the text.
struct Printed {
    text: String,
    area: Rect,
    base: f64,
    size: f64,
}

impl Printed {
    /// Turns the line back into the page's frame.
    fn to_line(&self, degrees: f64) -> Line {
        let area = turned(degrees).transform_rect_bbox(self.area);
        let round = |value: f64| (value * 100.0).round() / 100.0;
        Line {
            text: self.text.clone(),
            confidence: 1.0,
            bounds: Some([
                round(area.x0),
                round(area.y0),
                round(area.width()),
                round(area.height()),
            ]),
        }
    }
}

/// Writes a row down as a line.
fn print(row: &Row, rightward: bool) -> Option<Printed> {
    let mut pieces: Vec<&Piece> = row.iter().flat_map(|segment| &segment.pieces).collect();
    pieces.sort_by(|a, b| a.left.total_cmp(&b.left));
    let clusters = clusters(&pieces);
    let all: String = clusters.concat();
    let text = if direction::has_right_to_left(&all) {
        let rightward = rightward || direction::is_right_to_left(&all);
        direction::logical(
            &clusters.iter().map(String::as_str).collect::<Vec<_>>(),
            rightward,
        )
    } else {
        all
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return None;
    }
    let inked = pieces.iter().filter(|piece| !is_blank(&piece.text));
    let area = inked
        .map(|piece| {
            Rect::from_points(
                Point::new(piece.left, piece.base - 0.8 * piece.size),
                Point::new(piece.right, piece.base + 0.2 * piece.size),
            )
        })
        .reduce(|a, b| a.union(b))?;
    let largest = row.iter().max_by(|a, b| a.size.total_cmp(&b.size))?;
    Some(Printed {
        text,
        area,
        base: largest.base,
        size: largest.size,
    })
}

/// The texts of a line from left to right, marks with the letters that they stand on, and spaces where the gaps are.
fn clusters(pieces: &[&Piece]) -> Vec<String> {
    let threshold = space_width(pieces);
    let mut clusters: Vec<String> = Vec::new();
    let mut edges: Vec<(f64, f64)> = Vec::new();
    let (marks, bases): (Vec<&Piece>, Vec<&Piece>) = pieces
        .iter()
        .partition(|piece| piece.text.chars().all(is_combining_mark));
    let mut end: Option<f64> = None;
    let mut blank = false;
    for piece in bases {
        if is_blank(&piece.text) {
            blank = true;
            continue;
        }
        if let Some(end) = end
            && (piece.left - end > threshold * piece.size
                || blank && piece.left - end > -0.05 * piece.size)
        {
            clusters.push(" ".to_owned());
            edges.push((f64::NAN, f64::NAN));
        }
        blank = false;
        clusters.push(piece.text.chars().filter(|c| !c.is_control()).collect());
        edges.push((piece.left, piece.right));
        end = Some(end.map_or(piece.right, |end| end.max(piece.right)));
    }
    for mark in marks {
        let middle = (mark.left + mark.right) / 2.0;
        let distance = |&(left, right): &(f64, f64)| {
            if left.is_nan() {
                f64::INFINITY
            } else {
                (left - middle).max(middle - right)
            }
        };
        let nearest = edges
            .iter()
            .enumerate()
            .min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
        match nearest.and_then(|(index, _)| clusters.get_mut(index)) {
            Some(cluster) => cluster.push_str(&mark.text),
            None => clusters.push(mark.text.clone()),
        }
    }
    clusters
}

/// The gap, in ems, from which on two glyphs are words apart: more than the letters' own spacing.
fn space_width(pieces: &[&Piece]) -> f64 {
    let mut gaps: Vec<f64> = pieces
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if !is_blank(&a.text) && !is_blank(&b.text) => {
                Some((b.left - a.right) / b.size.max(0.1))
            }
            _ => None,
        })
        .collect();
    gaps.sort_by(f64::total_cmp);
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    // Spaced-out print has a gap after most letters; a few single letters in a row may be a table's cells instead, unless their
    // words are told apart by spaces.
    let enough =
        gaps.len() >= 6 || gaps.len() >= 3 && pieces.iter().any(|piece| is_blank(&piece.text));
    let spaced_out = enough && usual > 0.08 && usual < 0.6;
    0.15 + if spaced_out { usual } else { 0.0 }
}

fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || c.is_control() || c == '\u{200b}')
}

/// The usual distance between baselines, in font sizes.
fn usual_pitch(lines: &[Printed]) -> f64 {
    let mut pitches: Vec<f64> = lines
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if b.base > a.base => Some((b.base - a.base) / b.size.max(0.1)),
            _ => None,
        })
        .filter(|pitch| *pitch < 2.5)
        .collect();
    pitches.sort_by(f64::total_cmp);
    pitches.get(pitches.len() / 2).copied().unwrap_or(1.2)
}

/// Whether a line stands apart from the one before it: further below than usual, above it (the next column), or beside it.
fn starts_paragraph(before: &Printed, line: &Printed, pitch: f64) -> bool {
    let down = (line.base - before.base) / before.size.min(line.size).max(0.1);
    down <= 0.0
        || down > 1.3 * pitch.max(1.0)
        || line.area.x0 > before.area.x1
        || line.area.x1 < before.area.x0
}
