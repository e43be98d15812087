//! Thumbnails of covers. A host may send megabytes, and every listener loads them: a large cover becomes a small JPEG,
//! once, when somebody first asks for it, on the blocking threads and few at a time.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use tokio::sync::Semaphore;

use crate::session::metadata::CoverImage;

/// Bytes, and pixels of a side, up to which a cover is shown as it came.
const MAX_BYTES: usize = 200_000;
const MAX_SIDE: u32 = 600;
/// Side and JPEG quality, tried in turn until the thumbnail is small enough.
const ATTEMPTS: [(u32, u8); 4] = [(MAX_SIDE, 85), (MAX_SIDE, 70), (MAX_SIDE, 50), (300, 50)];
/// Pixels of a side, and bytes of memory, that a picture may take to be read.
const MAX_READ_SIDE: u32 = 8_192;
const MAX_READ_MEMORY: u64 = 128 << 20;
/// Pictures that are read at the same time.
const MAX_PARALLEL: usize = 2;

/// Thumbnail: its media type, and the picture.
pub type ThumbnailImage = (&'static str, Bytes);

/// Maker of thumbnails.
pub struct ThumbnailMaker {
    turns: Semaphore,
}

impl Default for ThumbnailMaker {
    fn default() -> Self {
        Self { turns: Semaphore::new(MAX_PARALLEL) }
    }
}

impl ThumbnailMaker {
    /// Returns `picture` as it came if it has at most 200,000 bytes and 600 pixels a side, else a JPEG within that, made
    /// once for each cover; `None` where it is too large to be read, or nothing that browsers show.
    pub async fn thumbnail_of(&self, picture: &Arc<CoverImage>) -> Option<ThumbnailImage> {
        let shown = picture.thumbnail.get_or_init(async || {
            // Each may take 128 MiB while it is read.
            let _turn = self.turns.acquire().await.ok()?;
            let picture = Arc::clone(picture);
            tokio::task::spawn_blocking(move || make_thumbnail(&picture.bytes()?)).await.ok()?
        });
        shown.await.clone()
    }
}

fn make_thumbnail(bytes: &Bytes) -> Option<ThumbnailImage> {
    let kind = detect_format(bytes)?;
    let reader = || ImageReader::with_format(Cursor::new(bytes), kind);
    let small = bytes.len() <= MAX_BYTES;
    let fits = |(width, height)| width <= MAX_SIDE && height <= MAX_SIDE;
    // What cannot be read is left to the browser.
    if small && reader().into_dimensions().map_or(true, fits) {
        return Some((kind.to_mime_type(), bytes.clone()));
    }
    match decode_image(reader()) {
        Some(image) => shrink(&image),
        None => small.then(|| (kind.to_mime_type(), bytes.clone())),
    }
}

/// Returns the format of a picture by its first bytes; `None` where browsers do not show it.
fn detect_format(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', ..] => Some(ImageFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [b'G', b'I', b'F', b'8', ..] => Some(ImageFormat::Gif),
        _ => None,
    }
}

fn decode_image(mut reader: ImageReader<Cursor<&Bytes>>) -> Option<DynamicImage> {
    // A few kilobytes of a picture may stand for gigabytes of pixels.
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_READ_SIDE), Some(MAX_READ_SIDE));
    limits.max_alloc = Some(MAX_READ_MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok().filter(|decoder| decoder.total_bytes() <= MAX_READ_MEMORY)?;
    let orientation = decoder.orientation().ok()?;
    let mut image = DynamicImage::from_decoder(decoder).ok()?;
    // JPEG without its metadata would lie on its side.
    image.apply_orientation(orientation);
    Some(image)
}

fn shrink(image: &DynamicImage) -> Option<ThumbnailImage> {
    ATTEMPTS.iter().find_map(|(side, quality)| {
        let side = (*side).min(image.width().max(image.height()));
        let small = image.resize(side, side, FilterType::Triangle).into_rgb8();
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, *quality).encode_image(&small).ok()?;
        (jpeg.len() <= MAX_BYTES).then(|| ("image/jpeg", jpeg.into()))
    })
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    /// A picture of noise, which no format makes small.
    fn noise(side: u32, format: ImageFormat) -> Bytes {
        let noise =
            |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519);
        let pixel = |x, y| image::Rgb(noise(x, y).to_be_bytes()[..3].try_into().expect("three bytes"));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(RgbImage::from_fn(side, side, pixel)).write_to(&mut bytes, format).expect("it is written");
        bytes.into_inner().into()
    }

    fn size((_, bytes): &ThumbnailImage) -> (u32, u32) {
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().expect("bytes").into_dimensions().expect("a picture")
    }

    #[test]
    fn a_small_cover_is_shown_as_it_came() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif] {
            let bytes = noise(100, format);
            assert_eq!(make_thumbnail(&bytes), Some((format.to_mime_type(), bytes)));
        }
    }

    #[test]
    fn a_large_cover_becomes_a_small_jpeg() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let bytes = noise(1000, format);
            assert!(bytes.len() > 2 * MAX_BYTES);
            let small = make_thumbnail(&bytes).expect("a cover");
            assert!(small.0 == "image/jpeg" && small.1.len() <= MAX_BYTES, "{} of {}", small.1.len(), bytes.len());
            assert!(size(&small) == (600, 600) || size(&small) == (300, 300));
        }
        let wide = DynamicImage::from(RgbImage::new(1200, 300));
        let mut bytes = Cursor::new(Vec::new());
        wide.write_to(&mut bytes, ImageFormat::Png).expect("it is written");
        let small = make_thumbnail(&bytes.into_inner().into()).expect("a cover");
        assert_eq!(size(&small), (600, 150), "few bytes, but too wide");
    }

    #[test]
    fn what_cannot_be_read_is_shown_where_it_is_small() {
        let broken = |length: usize| Bytes::from([&[0xff, 0xd8, 0xff][..], &vec![7; length]].concat());
        assert_eq!(make_thumbnail(&broken(10)), Some(("image/jpeg", broken(10))));
        assert_eq!(make_thumbnail(&broken(MAX_BYTES)), None);
        assert_eq!(make_thumbnail(&Bytes::from_static(b"<svg/>")), None);
    }

    #[test]
    fn a_picture_that_would_fill_the_memory_is_not_read() {
        // The head of a PNG of 60,000 pixels a side, with its checksum.
        let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x06\0\0\0".to_vec();
        bomb.extend(crc(&bomb[12..]).to_be_bytes());
        assert_eq!(
            make_thumbnail(&bomb.clone().into()),
            Some(("image/png", bomb.clone().into())),
            "small: the browser's task"
        );
        bomb.extend(vec![0; MAX_BYTES]);
        assert_eq!(make_thumbnail(&bomb.into()), None);
    }

    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        };
        !bytes.iter().fold(u32::MAX, step)
    }
}
