//! Rendering a page as a picture: grey for OCR, in colour for people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hayro::hayro_interpret::{InterpreterSettings, InterpreterWarning};
use hayro::hayro_syntax::page::Page;
use hayro::vello_cpu::Pixmap;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use image::{GrayImage, RgbaImage};

/// A page as a picture.
pub(super) struct Rendered {
    /// The picture, upright as the page is displayed.
    pub(super) picture: GrayImage,
    /// Its resolution in dots an inch where it had to be lower than asked for.
    pub(super) reduced_to: Option<u32>,
    /// Whether a picture or a font on the page could not be decoded.
    pub(super) incomplete: bool,
}

/// Renders a page at `dpi`, or lower where it would have more than `max_pixels`. `None` where nothing can be rendered.
pub(super) fn render(page: &Page<'_>, dpi: u32, max_pixels: u64) -> Option<Rendered> {
    let (width, height) = page.render_dimensions();
    let wanted = dpi as f32 / POINTS;
    let scale = wanted
        .min((max_pixels as f32 / (width * height)).sqrt())
        .min(f32::from(u16::MAX - 1) / width.max(height));
    let (pixels, incomplete) = pixels(page, scale);
    let (columns, rows) = (u32::from(pixels.width()), u32::from(pixels.height()));
    // The weights of ITU-R BT.709, as the image crate uses them.
    let gray = pixels
        .data_as_u8_slice()
        .chunks_exact(4)
        .map(|pixel| {
            ((2126 * u32::from(pixel[0]) + 7152 * u32::from(pixel[1]) + 722 * u32::from(pixel[2]))
                / 10_000) as u8
        })
        .collect();
    let picture = GrayImage::from_raw(columns, rows, gray).filter(|picture| !picture.is_empty())?;
    Some(Rendered {
        picture,
        reduced_to: (scale < 0.999 * wanted).then_some((scale * POINTS) as u32),
        incomplete,
    })
}

/// Renders a page in colour, its longer side at most so long.
pub(super) fn in_colour(page: &Page<'_>, longest: u32) -> Option<RgbaImage> {
    let (width, height) = page.render_dimensions();
    let scale = longest as f32 / width.max(height);
    let (pixels, _) = pixels(page, scale);
    let (columns, rows) = (u32::from(pixels.width()), u32::from(pixels.height()));
    // The background is opaque, so nothing is left that is premultiplied.
    RgbaImage::from_raw(columns, rows, pixels.data_as_u8_slice().to_vec())
        .filter(|picture| !picture.is_empty())
}

/// Renders a page, and says whether a picture or a font on it could not be decoded.
fn pixels(page: &Page<'_>, scale: f32) -> (Pixmap, bool) {
    let incomplete = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&incomplete);
    let settings = InterpreterSettings {
        warning_sink: Arc::new(move |warning| {
            let lost = matches!(
                warning,
                InterpreterWarning::ImageDecodeFailure | InterpreterWarning::UnsupportedFont
            );
            noted.fetch_or(lost, Ordering::Relaxed);
        }),
        ..InterpreterSettings::default()
    };
    let pixels = hayro::render(
        page,
        &RenderCache::new(),
        &settings,
        &RenderSettings::default(),
        &PixmapSettings {
            x_scale: scale,
            y_scale: scale,
            bg_color: WHITE,
        },
    );
    (pixels, incomplete.load(Ordering::Relaxed))
}

/// Whether a picture shows one shade only.
pub(super) fn is_uniform(picture: &GrayImage) -> bool {
    let (darkest, lightest) = picture
        .iter()
        .fold((u8::MAX, u8::MIN), |(dark, light), &shade| {
            (dark.min(shade), light.max(shade))
        });
    lightest.saturating_sub(darkest) < 16
}

/// Points in an inch.
const POINTS: f32 = 72.0;
