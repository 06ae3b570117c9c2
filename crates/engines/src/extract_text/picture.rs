//! Pictures: PNG, JPEG, WebP, TIFF with several pages, BMP and GIF (its first frame), read by OCR.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader};
use linkspan_model::Code;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::{Extracted, Reader, from_ocr};
use crate::engine::{Document, EngineError};

/// Reads every page of a picture.
pub(super) fn extract(
    document: &Document<'_>,
    reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let mut extracted = Extracted::default();
    let most = Most {
        pixels: reader.options.max_pixels,
        pages: reader.options.max_pages,
    };
    let pages = &mut extracted.pages;
    extracted.warnings = each_page(document, most, &mut |picture| {
        let read = reader.ocr.read_page(&picture, &reader.options.languages)?;
        let number = u32::try_from(pages.len() + 1).unwrap_or(u32::MAX);
        pages.push(from_ocr(number, &picture, read));
        Ok(())
    })?;
    Ok(extracted)
}

/// Limits of one picture file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// Most pixels of a page.
    pub(crate) pixels: u64,
    /// Most pages.
    pub(crate) pages: u32,
}

/// Whether a file's content is a picture that [`each_page`] decodes.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    image::guess_format(bytes).is_ok_and(supported)
}

/// Decodes a picture file page by page, as grey pictures that stand as the file says (EXIF), and hands each to `page`. Answers
/// warnings on what could not be decoded.
///
/// # Errors
///
/// `unsupported-media-type` for content that is no picture, `document-too-complex` beyond the limits (checked before decoding),
/// `unreadable-document` when nothing can be decoded; and what `page` answers.
pub(crate) fn each_page(
    document: &Document<'_>,
    most: Most,
    page: &mut dyn FnMut(GrayImage) -> Result<(), EngineError>,
) -> Result<Vec<String>, EngineError> {
    let format = image::guess_format(document.bytes)
        .ok()
        .filter(|format| supported(*format))
        .ok_or_else(|| {
            EngineError::new(
                Code::UnsupportedMediaType,
                "The document is not a picture: send a PNG, JPEG, WebP, TIFF, BMP or GIF file.",
            )
        })?;
    if format == ImageFormat::Tiff {
        return each_tiff_page(document.bytes, most, page);
    }
    let (picture, warnings) = single(document.bytes, format, most.pixels)?;
    page(picture)?;
    Ok(warnings)
}

fn supported(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    matches!(format, Png | Jpeg | WebP | Tiff | Bmp | Gif)
}

fn single(
    bytes: &[u8],
    format: ImageFormat,
    max_pixels: u64,
) -> Result<(GrayImage, Vec<String>), EngineError> {
    let mut limits = image::Limits::default();
    // The widest format has 16 bytes a pixel, and decoders hold a frame twice at most.
    limits.max_alloc = Some(max_pixels.saturating_mul(32));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| match error {
        image::ImageError::Limits(_) => too_large(None, max_pixels),
        other => unreadable("its header is damaged").because(other),
    })?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let color = decoder.color_type();
    let length = usize::try_from(decoder.total_bytes())
        .map_err(|_| too_large(Some((width, height)), max_pixels))?;
    let mut warnings = Vec::new();
    // White, so that what a damaged file lacks is blank.
    let mut samples = vec![0xff; length];
    if let Err(error) = decoder.read_image(&mut samples) {
        let first_missing = samples
            .iter()
            .rposition(|sample| *sample != 0xff)
            .map_or(0, |last| last + 1);
        let share = first_missing as f64 / length.max(1) as f64;
        if share < 0.05 {
            return Err(unreadable("its content is damaged or cut off").because(error));
        }
        warnings.push(format!(
            "The picture is damaged or cut off: only about the upper {:.0} % could be decoded.",
            share * 100.0
        ));
    } else if format == ImageFormat::Jpeg && !ends_like_jpeg(bytes) {
        warnings.push("The picture is cut off: its lower part is missing.".to_owned());
    }
    let channels = usize::from(color.channel_count());
    let wide = usize::from(color.bytes_per_pixel()) / channels.max(1) == 2;
    let sample = |pixel: &[u8], channel: usize| -> f32 {
        if wide {
            f32::from(u16::from_ne_bytes([
                pixel[channel * 2],
                pixel[channel * 2 + 1],
            ])) / 257.0
        } else {
            f32::from(pixel[channel])
        }
    };
    let layout = Layout {
        color: color.has_color(),
        alpha: color.has_alpha(),
    };
    let greys = samples
        .chunks_exact(usize::from(color.bytes_per_pixel()).max(1))
        .map(|pixel| grey(layout, &|channel| sample(pixel, channel)))
        .collect();
    Ok((upright(width, height, greys, orientation)?, warnings))
}

/// A JPEG file ends with its end marker, perhaps with padding behind it.
fn ends_like_jpeg(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(4096)..];
    tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}

fn each_tiff_page(
    bytes: &[u8],
    most: Most,
    page: &mut dyn FnMut(GrayImage) -> Result<(), EngineError>,
) -> Result<Vec<String>, EngineError> {
    let mut limits = Limits::unlimited();
    let room = usize::try_from(most.pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    limits.decoding_buffer_size = room;
    limits.intermediate_buffer_size = room;
    limits.ifd_value_size = 1 << 22;
    let mut decoder = Decoder::new(Cursor::new(bytes))
        .map_err(|error| unreadable("its header is damaged").because(error))?
        .with_limits(limits);
    let mut warnings = Vec::new();
    let mut decoded = 0;
    for number in 1.. {
        if number > most.pages {
            return Err(EngineError::new(
                Code::DocumentTooComplex,
                format!(
                    "The picture has more than {} pages: split it, or raise `max_pages`.",
                    most.pages
                ),
            ));
        }
        match tiff_page(&mut decoder, most.pixels) {
            Ok(picture) => {
                page(picture)?;
                decoded += 1;
            }
            Err(error) if error.code == Code::DocumentTooComplex => return Err(error),
            Err(error) if decoded == 0 && !decoder.more_images() => return Err(error),
            Err(error) => {
                warnings.push(format!("Page {number}: {}", error.detail));
                // Pages keep their numbers: a blank stands for the one that is lost.
                page(GrayImage::from_pixel(1, 1, image::Luma([255])))?;
            }
        }
        if !decoder.more_images() {
            break;
        }
        if decoder.next_image().is_err() {
            warnings.push(format!(
                "The file is damaged after page {number}: later pages are missing."
            ));
            break;
        }
    }
    if decoded == 0 {
        return Err(unreadable("none of its pages can be decoded"));
    }
    Ok(warnings)
}

fn tiff_page(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    max_pixels: u64,
) -> Result<GrayImage, EngineError> {
    use tiff::ColorType::{CMYK, CMYKA, Gray, GrayA, Multiband, RGB, RGBA, YCbCr};
    let damaged = |error: tiff::TiffError| match error {
        tiff::TiffError::UnsupportedError(_) => {
            unreadable("it uses a TIFF variant that is not supported; save it as RGB or greyscale")
                .because(error)
        }
        other => unreadable("its content is damaged or cut off").because(other),
    };
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    check_size(width, height, max_pixels)?;
    let color = decoder.colortype().map_err(damaged)?;
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms);
    let samples = decoder.read_image().map_err(damaged)?;
    let count = width as usize * height as usize;
    let greys = match color {
        Gray(bits @ (1 | 2 | 4)) => {
            let DecodingResult::U8(packed) = &samples else {
                return Err(unreadable("its samples are of an unknown kind"));
            };
            unpacked(packed, width as usize, bits)
        }
        Gray(_)
        | GrayA(_)
        | RGB(_)
        | RGBA(_)
        | CMYK(_)
        | CMYKA(_)
        | YCbCr(_)
        | Multiband { .. } => {
            let channels = usize::from(color.num_samples());
            let at = levels(&samples)?;
            (0..count)
                .map(|pixel| {
                    let sample = |channel: usize| at(pixel * channels + channel);
                    match color {
                        CMYK(_) | CMYKA(_) => {
                            let black = 255.0 - sample(3);
                            grey(
                                Layout {
                                    color: true,
                                    alpha: false,
                                },
                                &|channel| (255.0 - sample(channel)) * black / 255.0,
                            )
                        }
                        RGB(_) => grey(
                            Layout {
                                color: true,
                                alpha: false,
                            },
                            &sample,
                        ),
                        RGBA(_) => grey(
                            Layout {
                                color: true,
                                alpha: true,
                            },
                            &sample,
                        ),
                        GrayA(_) => grey(
                            Layout {
                                color: false,
                                alpha: true,
                            },
                            &sample,
                        ),
                        // Y of YCbCr is the grey itself.
                        _ => grey(
                            Layout {
                                color: false,
                                alpha: false,
                            },
                            &sample,
                        ),
                    }
                })
                .collect()
        }
        _ => {
            return Err(unreadable(
                "its colours are of a kind that is not supported; save it as RGB or greyscale",
            ));
        }
    };
    upright(width, height, greys, orientation)
}

type Levels<'a> = Box<dyn Fn(usize) -> f32 + 'a>;

/// Samples as levels from 0 to 255; what lies past the end is white.
fn levels(samples: &DecodingResult) -> Result<Levels<'_>, EngineError> {
    Ok(match samples {
        DecodingResult::U8(samples) => Box::new(|index| {
            samples
                .get(index)
                .map_or(255.0, |sample| f32::from(*sample))
        }),
        DecodingResult::U16(samples) => Box::new(|index| {
            samples
                .get(index)
                .map_or(255.0, |sample| f32::from(*sample) / 257.0)
        }),
        DecodingResult::U32(samples) => Box::new(|index| {
            samples
                .get(index)
                .map_or(255.0, |sample| (f64::from(*sample) / 16_843_009.0) as f32)
        }),
        DecodingResult::F32(samples) => Box::new(|index| {
            samples
                .get(index)
                .map_or(255.0, |sample| (sample * 255.0).clamp(0.0, 255.0))
        }),
        _ => {
            return Err(unreadable(
                "its samples are of a kind that is not supported; save it with 8 or 16 bits",
            ));
        }
    })
}

/// Rows of packed samples of 1, 2 or 4 bits, each row filled up to a byte.
fn unpacked(packed: &[u8], width: usize, bits: u8) -> Vec<u8> {
    let per_byte = 8 / usize::from(bits);
    let top = (1_u16 << bits) - 1;
    let row_length = width.div_ceil(per_byte).max(1);
    let mut greys = Vec::with_capacity(packed.len() * per_byte);
    for row in packed.chunks_exact(row_length) {
        for column in 0..width {
            let shift = 8 - usize::from(bits) * (column % per_byte + 1);
            let level = u16::from(row[column / per_byte] >> shift) & top;
            greys.push((level * 255 / top) as u8);
        }
    }
    greys
}

#[derive(Clone, Copy)]
struct Layout {
    color: bool,
    alpha: bool,
}

/// A pixel's grey (Rec. 601 luma) over white.
fn grey(layout: Layout, sample: &dyn Fn(usize) -> f32) -> u8 {
    let level = if layout.color {
        0.299 * sample(0) + 0.587 * sample(1) + 0.114 * sample(2)
    } else {
        sample(0)
    };
    let level = if layout.alpha {
        let alpha = sample(if layout.color { 3 } else { 1 }) / 255.0;
        level * alpha + 255.0 * (1.0 - alpha)
    } else {
        level
    };
    level.round() as u8
}

fn upright(
    width: u32,
    height: u32,
    greys: Vec<u8>,
    orientation: Orientation,
) -> Result<GrayImage, EngineError> {
    let mut greys = greys;
    greys.resize(width as usize * height as usize, 255);
    let picture =
        GrayImage::from_raw(width, height, greys).ok_or_else(|| unreadable("its size is wrong"))?;
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let mut picture = DynamicImage::ImageLuma8(picture);
    picture.apply_orientation(orientation);
    Ok(picture.into_luma8())
}

fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<(), EngineError> {
    if width == 0 || height == 0 {
        return Err(unreadable("it has no pixels"));
    }
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(too_large(Some((width, height)), max_pixels));
    }
    Ok(())
}

fn too_large(size: Option<(u32, u32)>, max_pixels: u64) -> EngineError {
    let size = size.map_or("too many".to_owned(), |(width, height)| {
        format!("{width} × {height}")
    });
    EngineError::new(
        Code::DocumentTooComplex,
        format!(
            "The picture has {size} pixels, and the limit is {max_pixels}: reduce it, or raise `max_pixels`."
        ),
    )
}

fn unreadable(why: &str) -> EngineError {
    EngineError::new(
        Code::UnreadableDocument,
        format!("The picture cannot be read: {why}."),
    )
}

#[cfg(test)]
mod tests;
