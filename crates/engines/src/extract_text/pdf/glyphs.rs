//! What a page draws: its glyphs with their places, and how much of it is pictures.

use std::collections::HashMap;

use hayro::hayro_interpret::font::{Glyph as Shape, GlyphRun};
use hayro::hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, SoftMask, TransformExt as _, interpret_page,
};
use hayro::hayro_syntax::object::{self, Dict};
use hayro::hayro_syntax::page::Page;
use hayro::kurbo::{Affine, BezPath, Point, Rect, Shape as _, Vec2};
use unicode_normalization::char::is_combining_mark;

/// One glyph. Lengths are points; the origin is the top left corner of the page as it is displayed, y grows downwards.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Glyph {
    /// What it stands for: one character, or several for a ligature, in logical order.
    pub(super) text: String,
    /// Whether the file says what it stands for.
    pub(super) known: bool,
    /// Where its baseline starts.
    pub(super) origin: Point,
    /// Where the writing goes from there, and how far.
    pub(super) advance: Vec2,
    /// The size of the font.
    pub(super) size: f64,
}

/// What is on a page.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    /// The glyphs in the order in which the file draws them.
    pub(super) glyphs: Vec<Glyph>,
    /// Whether anything is drawn but text.
    pub(super) graphics: bool,
    /// The share of the page that its largest picture covers.
    pub(super) picture: f64,
}

/// Reads what a page draws.
pub(super) fn draw<'a>(page: &Page<'a>, cache: &InterpreterCache<'a>) -> Drawn {
    let (width, height) = page.render_dimensions();
    let area = Rect::new(0.0, 0.0, width.into(), height.into());
    let mut context = Context::new(
        page.initial_transform(true).to_kurbo(),
        area,
        cache,
        page.xref(),
        InterpreterSettings::default(),
    );
    let mut collector = Collector {
        area,
        drawn: Drawn::default(),
        marked: Vec::new(),
        cells: HashMap::new(),
    };
    interpret_page(page, &mut context, &mut collector);
    collector.drawn
}

/// A device that notes instead of painting.
struct Collector {
    area: Rect,
    drawn: Drawn,
    /// The marked-content sequences that are open.
    marked: Vec<Marked>,
    /// The glyphs by half-point cells, to find those that are drawn twice (bold by overprinting, fill and stroke).
    cells: HashMap<(i64, i64), Vec<usize>>,
}

/// An open marked-content sequence.
enum Marked {
    Plain,
    /// The text that replaces what the sequence's glyphs stand for (ISO 32000-1, 14.9.4); empty once it was used.
    Actual(String),
}

impl Collector {
    fn add(&mut self, glyph: Glyph) {
        let margin = glyph.size.max(1.0);
        if !self.area.inflate(margin, margin).contains(glyph.origin)
            || !glyph.size.is_finite()
            || glyph.size < 0.1
        {
            return;
        }
        let cell = (
            (glyph.origin.x * 2.0).floor() as i64,
            (glyph.origin.y * 2.0).floor() as i64,
        );
        let twice = (-1..=1)
            .flat_map(|x| (-1..=1).map(move |y| (cell.0 + x, cell.1 + y)))
            .filter_map(|near| self.cells.get(&near))
            .flatten()
            .filter_map(|&index| self.drawn.glyphs.get(index))
            .any(|other| {
                other.text == glyph.text && other.origin.distance(glyph.origin) < 0.06 * glyph.size
            });
        if twice {
            return;
        }
        self.cells
            .entry(cell)
            .or_default()
            .push(self.drawn.glyphs.len());
        self.drawn.glyphs.push(glyph);
    }

    /// What a glyph stands for, and whether the file says so.
    fn meaning(&mut self, shape: &Shape<'_>) -> (String, bool) {
        if let Some(Marked::Actual(text)) = self
            .marked
            .iter_mut()
            .rev()
            .find(|marked| matches!(marked, Marked::Actual(_)))
        {
            return (std::mem::take(text), true);
        }
        match shape.as_unicode() {
            Some(BfString::Char(character)) => (character.to_string(), true),
            Some(BfString::String(text)) => (text, true),
            None => (char::REPLACEMENT_CHARACTER.to_string(), false),
        }
    }
}

impl<'a> Device<'a> for Collector {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        let vertical = matches!(run.writing_mode(), WritingMode::Vertical);
        for glyph in run.glyphs() {
            let (text, known) = self.meaning(glyph);
            if text.is_empty() {
                continue;
            }
            let place = props.transform * glyph.transform();
            let origin = place * Point::ZERO;
            let up = place * Point::new(0.0, EM) - origin;
            let advance = if vertical {
                -up
            } else {
                let width = match &**glyph {
                    Shape::Outline(outline) => outline.advance_width(),
                    Shape::Type3(drawn) => drawn.advance_width(),
                };
                place * Point::new(width.unwrap_or(0.5 * EM as f32).into(), 0.0) - origin
            };
            // A glyph of no width (a combining mark) still says which way the writing goes.
            let advance = if advance.hypot() < 1e-3 * up.hypot() {
                (place * Point::new(EM, 0.0) - origin) * 1e-3
            } else {
                advance
            };
            // Where a combining mark stands shows in its outline only: fonts set its origin as they like.
            let origin = match &**glyph {
                Shape::Outline(outline) if text.chars().all(is_combining_mark) => {
                    let along = advance / advance.hypot().max(f64::MIN_POSITIVE);
                    let ink = (place * outline.outline()).bounding_box();
                    if ink.area() > 0.0 {
                        origin + along * along.dot(ink.center() - origin)
                    } else {
                        origin
                    }
                }
                _ => origin,
            };
            self.add(Glyph {
                text,
                known,
                origin,
                advance,
                size: up.hypot(),
            });
        }
    }

    fn draw_image(&mut self, image: Image<'a, '_>, props: ImageDrawProps<'a>) {
        let unit = Rect::new(0.0, 0.0, image.width().into(), image.height().into());
        let covered = props
            .transform
            .transform_rect_bbox(unit)
            .intersect(self.area);
        self.drawn.graphics = true;
        self.drawn.picture = self
            .drawn
            .picture
            .max(covered.area() / self.area.area().max(1.0));
    }

    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'a>, _: &DrawMode) {
        let area = self.area;
        self.drawn.graphics = self.drawn.graphics
            || props
                .transform
                .transform_rect_bbox(path.bounding_box())
                .overlaps(area);
    }

    fn begin_marked_content(&mut self, _: &[u8], properties: Option<&Dict<'_>>) {
        let actual = properties
            .and_then(|dict| dict.get::<object::String<'_>>(b"ActualText".as_slice()))
            .map(|text| text_string(text.as_bytes()))
            // A soft hyphen in place of a printed one: hyphens stay as printed.
            .filter(|text| text != "\u{ad}");
        self.marked
            .push(actual.map_or(Marked::Plain, Marked::Actual));
    }

    fn end_marked_content(&mut self) {
        self.marked.pop();
    }

    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

/// The units of glyph space in one em.
const EM: f64 = 1000.0;

/// A text string (ISO 32000-1, 7.9.2.2): UTF-16 or UTF-8 with a byte order mark, else PDFDocEncoding, of which the Latin-1 part is
/// read.
fn text_string(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, rest @ ..] => {
            let units = rest
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units)
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => bytes.iter().copied().map(char::from).collect(),
    }
}

/// A turn about the origin.
pub(super) fn turned(degrees: f64) -> Affine {
    Affine::rotate(degrees.to_radians())
}
