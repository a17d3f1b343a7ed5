//! The figures of the demo, drawn by plain code.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};

use super::canvas::{Canvas, Colour, INK, PALE, Point};
use super::random::Random;
use super::{DemoError, make_folder, write_file};

/// Figures that can be read.
pub(super) const WHOLE: usize = 72;

/// The number of the figure whose file is cut off in the middle.
pub(super) const TRUNCATED: usize = WHOLE;

const COLOURS: [Colour; 6] =
    [[58, 110, 190], [214, 96, 77], [84, 158, 104], [226, 168, 60], [132, 94, 168], [70, 160, 170]];

/// What a figure shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Triangle,
    Circle,
    Graph,
    Bars,
    Grid,
}

const KINDS: [Kind; 5] = [Kind::Triangle, Kind::Circle, Kind::Graph, Kind::Bars, Kind::Grid];

/// What figure `number` shows.
pub(super) fn kind(number: usize) -> Kind {
    KINDS[number % KINDS.len()]
}

/// Writes the figures to `dir` as PNG and JPEG, in folders by date of both forms (`YYYYMMDD/` and
/// `YYYY/MM/DD/`), and one JPEG that is cut off. Returns the number of files. The same seed gives the
/// same bytes; [`super::write_items`] names them whatever its seed.
pub fn write_figures(dir: &Path, seed: u64) -> Result<usize, DemoError> {
    for number in 0..=TRUNCATED {
        let path = dir.join(stored_path(number));
        make_folder(path.parent().unwrap_or(dir))?;
        let image = draw(number, seed);
        let bytes = encode(&image, is_jpeg(number)).map_err(|error| DemoError::encode(&path, &error))?;
        let length = if number == TRUNCATED { bytes.len() / 2 } else { bytes.len() };
        write_file(&path, &bytes[..length])?;
    }
    Ok(TRUNCATED + 1)
}

/// Where a figure lies.
pub(super) fn stored_path(number: usize) -> String {
    dated(number, number.is_multiple_of(2))
}

/// How items name it: every third one with its date written the other way.
pub(super) fn named_path(number: usize) -> String {
    dated(number, (number.is_multiple_of(2)) != (number.is_multiple_of(3)))
}

/// A path that no figure has.
pub(super) fn missing_path(number: usize) -> String {
    format!("20190229/lost_{number:02}.png")
}

fn is_jpeg(number: usize) -> bool {
    number % 3 == 1 || number == TRUNCATED
}

fn dated(number: usize, in_one_folder: bool) -> String {
    let (year, month, day) = (2012 + number % 12, 1 + number * 5 % 12, 1 + number * 7 % 28);
    let ending = if is_jpeg(number) { "jpg" } else { "png" };
    let name = format!("figure_{number:03}.{ending}");
    if in_one_folder {
        format!("{year}{month:02}{day:02}/{name}")
    } else {
        format!("{year}/{month:02}/{day:02}/{name}")
    }
}

fn encode(image: &RgbImage, as_jpeg: bool) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Cursor::new(Vec::new());
    if as_jpeg {
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(image)?;
    } else {
        image.write_to(&mut bytes, ImageFormat::Png)?;
    }
    Ok(bytes.into_inner())
}

fn draw(number: usize, seed: u64) -> RgbImage {
    let mut random = Random::named(seed, &format!("figure {number}"));
    let (width, height) = (random.between(200, 360), random.between(150, 260));
    let mut canvas = Canvas::new(width as u32, height as u32);
    match kind(number) {
        Kind::Triangle => triangle(&mut canvas, &mut random),
        Kind::Circle => circle(&mut canvas, &mut random),
        Kind::Graph => graph(&mut canvas, &mut random),
        Kind::Bars => bars(&mut canvas, &mut random),
        Kind::Grid => grid(&mut canvas, &mut random),
    }
    canvas.into_image()
}

/// A triangle with the lengths of its sides, pale inside.
fn triangle(canvas: &mut Canvas, random: &mut Random) {
    let (width, height) = (canvas.width(), canvas.height());
    let apex = (width * random.within(0.2, 0.8), height * random.within(0.08, 0.25));
    let left = (width * random.within(0.08, 0.2), height * random.within(0.8, 0.9));
    let right = (width * random.within(0.8, 0.92), height * random.within(0.8, 0.9));
    let colour = *random.choose(&COLOURS);
    canvas.triangle([apex, left, right], lighter(colour));
    canvas.path(&[apex, left, right, apex], 2.5, INK);
    let centre = ((apex.0 + left.0 + right.0) / 3.0, (apex.1 + left.1 + right.1) / 3.0);
    for (from, to) in [(apex, left), (left, right), (right, apex)] {
        let middle = (from.0.midpoint(to.0), from.1.midpoint(to.1));
        let inward = |value: f32, centre: f32| value + (centre - value) * 0.28;
        let at = (inward(middle.0, centre.0) - 5.0, inward(middle.1, centre.1) - 6.0);
        // A unit is 16 pixels, so that the three numbers are those of a triangle.
        let length = (from.0 - to.0).hypot(from.1 - to.1) / 16.0;
        canvas.number(length.round() as u32, at, 12.0, INK);
    }
    for corner in [apex, left, right] {
        canvas.disc(corner, 4.0, colour);
    }
}

/// A circle with its centre, a radius and a chord.
fn circle(canvas: &mut Canvas, random: &mut Random) {
    let centre = (canvas.width() / 2.0, canvas.height() / 2.0);
    let radius = canvas.width().min(canvas.height()) * random.within(0.3, 0.44);
    let colour = *random.choose(&COLOURS);
    let on_rim = |angle: f32| (centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin());
    canvas.disc(centre, radius, lighter(colour));
    canvas.circle(centre, radius, 2.5, INK);
    let (first, second, third) = (random.within(0.0, 2.0), random.within(2.4, 4.2), random.within(4.4, 6.0));
    canvas.line(centre, on_rim(first), 2.0, colour);
    canvas.line(on_rim(second), on_rim(third), 2.0, colour);
    for point in [centre, on_rim(first), on_rim(second), on_rim(third)] {
        canvas.disc(point, 3.5, INK);
    }
    canvas.number(random.between(2, 15) as u32, (centre.0 + 8.0, centre.1 - 18.0), 12.0, INK);
}

/// Axes and one of four functions.
fn graph(canvas: &mut Canvas, random: &mut Random) {
    let (width, height) = (canvas.width(), canvas.height());
    let origin = (width / 2.0, height / 2.0);
    let unit = width.min(height) / 9.0;
    for step in -8_i32..=8 {
        let at = step as f32 * unit;
        canvas.line((origin.0 + at, 0.0), (origin.0 + at, height), 1.0, PALE);
        canvas.line((0.0, origin.1 + at), (width, origin.1 + at), 1.0, PALE);
    }
    canvas.line((6.0, origin.1), (width - 6.0, origin.1), 2.0, INK);
    canvas.line((origin.0, 6.0), (origin.0, height - 6.0), 2.0, INK);
    canvas.triangle(
        [(width - 4.0, origin.1), (width - 13.0, origin.1 - 5.0), (width - 13.0, origin.1 + 5.0)],
        INK,
    );
    canvas.triangle([(origin.0, 4.0), (origin.0 - 5.0, 13.0), (origin.0 + 5.0, 13.0)], INK);
    let (a, b, c) = (random.within(0.3, 1.1), random.within(-1.5, 1.5), random.within(-2.0, 2.0));
    let form = random.between(0, 3);
    let function = |x: f32| match form {
        0 => a * x + c,
        1 => a * (x - b) * (x - b) + c,
        2 => 2.0 * (a * 2.0 * x + b).sin() + c,
        _ => a * 0.4 * x * x * x - x + c,
    };
    let points: Vec<Point> = (0..=120)
        .map(|step| (step as f32 / 60.0 - 1.0) * width / 2.0 / unit)
        .map(|x| (origin.0 + x * unit, origin.1 - function(x) * unit))
        .filter(|(_, y)| (-20.0..height + 20.0).contains(y))
        .collect();
    canvas.path(&points, 2.5, *random.choose(&COLOURS));
}

/// A bar chart with the values above the bars.
fn bars(canvas: &mut Canvas, random: &mut Random) {
    let (width, height) = (canvas.width(), canvas.height());
    let (floor, left) = (height - 18.0, 20.0);
    for line in 1..=4 {
        let y = floor - (floor - 26.0) * line as f32 / 4.0;
        canvas.line((left, y), (width - 10.0, y), 1.0, PALE);
    }
    let count = random.between(4, 7);
    let pitch = (width - left - 14.0) / count as f32;
    for bar in 0..count {
        let value = random.between(10, 99);
        let low = left + 6.0 + bar as f32 * pitch;
        let top = floor - (floor - 26.0) * value as f32 / 100.0;
        canvas.rectangle((low, top), (low + pitch * 0.66, floor), COLOURS[bar as usize % COLOURS.len()]);
        canvas.number(value as u32, (low + pitch * 0.33 - 8.0, top - 14.0), 10.0, INK);
    }
    canvas.path(&[(left, 10.0), (left, floor), (width - 10.0, floor)], 2.0, INK);
}

/// A small table: some cells filled, some numbered.
fn grid(canvas: &mut Canvas, random: &mut Random) {
    let (columns, rows) = (random.between(3, 6), random.between(3, 5));
    let cell = ((canvas.width() - 24.0) / columns as f32).min((canvas.height() - 24.0) / rows as f32);
    let left = (canvas.width() - cell * columns as f32) / 2.0;
    let top = (canvas.height() - cell * rows as f32) / 2.0;
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        let corner = (left + cell * column as f32, top + cell * row as f32);
        match random.between(0, 3) {
            0 => canvas.rectangle(
                corner,
                (corner.0 + cell, corner.1 + cell),
                lighter(*random.choose(&COLOURS)),
            ),
            1 => {
                let value = random.between(1, 9) as u32;
                canvas.number(value, (corner.0 + cell * 0.4, corner.1 + cell * 0.3), cell * 0.4, INK);
            }
            _ => {}
        }
    }
    for column in 0..=columns {
        let x = left + cell * column as f32;
        canvas.line((x, top), (x, top + cell * rows as f32), 1.6, INK);
    }
    for row in 0..=rows {
        let y = top + cell * row as f32;
        canvas.line((left, y), (left + cell * columns as f32, y), 1.6, INK);
    }
}

/// The colour, half way to white and beyond.
fn lighter(colour: Colour) -> Colour {
    colour.map(|value| value + (255 - value) / 3 * 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::SEED;
    use super::*;

    #[test]
    fn figures_decode_and_are_the_same_again() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(write_figures(first.path(), SEED).unwrap(), WHOLE + 1);
        write_figures(second.path(), SEED).unwrap();
        for number in 0..=TRUNCATED {
            let bytes = std::fs::read(first.path().join(stored_path(number))).unwrap();
            assert_eq!(bytes, std::fs::read(second.path().join(stored_path(number))).unwrap());
            if number == TRUNCATED {
                assert!(!bytes.ends_with(&[0xff, 0xd9]), "the file ends as a whole JPEG does");
            } else {
                let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
                let white = image.pixels().filter(|pixel| pixel.0 == [255; 3]).count();
                assert!(white < image.pixels().len() * 19 / 20, "figure {number} is almost empty");
            }
        }
    }

    #[test]
    fn both_forms_of_dates_and_both_formats_occur() {
        let stored: BTreeSet<String> = (0..=TRUNCATED).map(stored_path).collect();
        assert_eq!(stored.len(), WHOLE + 1);
        assert!((0..WHOLE).any(|number| stored_path(number) != named_path(number)));
        assert!((0..WHOLE).any(|number| stored_path(number) == named_path(number)));
        assert!(
            stored.iter().any(|path| path.ends_with("png"))
                && stored.iter().any(|path| path.ends_with("jpg"))
        );
        assert!(!stored.contains(&missing_path(0)));
    }
}
