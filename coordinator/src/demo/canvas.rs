//! Plain drawing on RGB pixels. Edges are smooth: a pixel takes the colour by how far its centre lies
//! inside the shape.

use image::{Rgb, RgbImage};

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

pub(super) const WHITE: Colour = [255, 255, 255];
pub(super) const INK: Colour = [34, 34, 46];
pub(super) const PALE: Colour = [214, 220, 230];

/// A point in pixels from the upper left corner.
pub(super) type Point = (f32, f32);

/// The strokes of a digit on a grid of 1 by 2, as in a seven-segment display: upper, upper left, upper
/// right, middle, lower left, lower right, lower.
const STROKES: [[f32; 4]; 7] = [
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 1.0],
    [1.0, 0.0, 1.0, 1.0],
    [0.0, 1.0, 1.0, 1.0],
    [0.0, 1.0, 0.0, 2.0],
    [1.0, 1.0, 1.0, 2.0],
    [0.0, 2.0, 1.0, 2.0],
];

/// Which strokes a digit has; the first of [`STROKES`] is the lowest bit.
const DIGITS: [u8; 10] = [
    0b111_0111, 0b010_0100, 0b101_1101, 0b110_1101, 0b010_1110, 0b110_1011, 0b111_1011, 0b010_0101,
    0b111_1111, 0b110_1111,
];

/// A picture in the making.
#[derive(Debug)]
pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A white picture.
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { image: RgbImage::from_pixel(width, height, Rgb(WHITE)) }
    }

    pub(super) fn width(&self) -> f32 {
        self.image.width() as f32
    }

    pub(super) fn height(&self) -> f32 {
        self.image.height() as f32
    }

    pub(super) fn into_image(self) -> RgbImage {
        self.image
    }

    /// A straight stroke with round ends.
    pub(super) fn line(&mut self, from: Point, to: Point, width: f32, colour: Colour) {
        let along = (to.0 - from.0, to.1 - from.1);
        let squared = (along.0 * along.0 + along.1 * along.1).max(1e-6);
        let low = (from.0.min(to.0) - width, from.1.min(to.1) - width);
        let high = (from.0.max(to.0) + width, from.1.max(to.1) + width);
        self.shade(low, high, colour, |(x, y)| {
            let (dx, dy) = (x - from.0, y - from.1);
            let t = ((dx * along.0 + dy * along.1) / squared).clamp(0.0, 1.0);
            width / 2.0 - (dx - t * along.0).hypot(dy - t * along.1)
        });
    }

    /// Strokes from each point to the next.
    pub(super) fn path(&mut self, points: &[Point], width: f32, colour: Colour) {
        for pair in points.windows(2) {
            self.line(pair[0], pair[1], width, colour);
        }
    }

    /// A circle's outline.
    pub(super) fn circle(&mut self, centre: Point, radius: f32, width: f32, colour: Colour) {
        self.around(centre, radius + width, colour, |distance| width / 2.0 - (distance - radius).abs());
    }

    /// A filled disc.
    pub(super) fn disc(&mut self, centre: Point, radius: f32, colour: Colour) {
        self.around(centre, radius, colour, |distance| radius - distance);
    }

    /// A filled rectangle with its sides along the axes.
    pub(super) fn rectangle(&mut self, low: Point, high: Point, colour: Colour) {
        self.shade(low, high, colour, |(x, y)| (x - low.0).min(high.0 - x).min((y - low.1).min(high.1 - y)));
    }

    /// A filled triangle.
    pub(super) fn triangle(&mut self, corners: [Point; 3], colour: Colour) {
        let [a, b, c] = corners;
        let turn = (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0);
        let sign = if turn < 0.0 { -1.0 } else { 1.0 };
        let inside = move |p: Point, from: Point, to: Point| {
            let (dx, dy) = (to.0 - from.0, to.1 - from.1);
            sign * (dx * (p.1 - from.1) - dy * (p.0 - from.0)) / dx.hypot(dy).max(1e-6)
        };
        let low = (a.0.min(b.0).min(c.0), a.1.min(b.1).min(c.1));
        let high = (a.0.max(b.0).max(c.0), a.1.max(b.1).max(c.1));
        self.shade(low, high, colour, |p| inside(p, a, b).min(inside(p, b, c)).min(inside(p, c, a)));
    }

    /// A whole number, its upper left corner at `at`, with digits of that height.
    pub(super) fn number(&mut self, value: u32, at: Point, height: f32, colour: Colour) {
        let unit = height / 2.0;
        for (position, digit) in value.to_string().bytes().enumerate() {
            let left = at.0 + position as f32 * unit * 1.6;
            let strokes = DIGITS[usize::from(digit - b'0')];
            for (_, [x0, y0, x1, y1]) in
                STROKES.iter().enumerate().filter(|(number, _)| strokes >> number & 1 == 1)
            {
                let place = |x: &f32, y: &f32| (left + x * unit * 0.9, at.1 + y * unit);
                self.line(place(x0, y0), place(x1, y1), (height / 8.0).max(1.2), colour);
            }
        }
    }

    fn around(&mut self, centre: Point, reach: f32, colour: Colour, depth: impl Fn(f32) -> f32) {
        let (low, high) = ((centre.0 - reach, centre.1 - reach), (centre.0 + reach, centre.1 + reach));
        self.shade(low, high, colour, |(x, y)| depth((x - centre.0).hypot(y - centre.1)));
    }

    /// Mixes the colour into every pixel of a box by `depth`: how many pixels a point lies inside the
    /// shape, negative outside.
    fn shade(&mut self, low: Point, high: Point, colour: Colour, depth: impl Fn(Point) -> f32) {
        let start = |value: f32| (value - 1.0).max(0.0) as u32;
        let end = |value: f32, limit: u32| ((value + 2.0).max(0.0) as u32).min(limit);
        for y in start(low.1)..end(high.1, self.image.height()) {
            for x in start(low.0)..end(high.0, self.image.width()) {
                let share = (depth((x as f32 + 0.5, y as f32 + 0.5)) + 0.5).clamp(0.0, 1.0);
                if share > 0.0 {
                    let Rgb(pixel) = self.image.get_pixel_mut(x, y);
                    for (old, new) in pixel.iter_mut().zip(colour) {
                        *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * share).round() as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_cover_what_they_should_and_nothing_else() {
        let mut canvas = Canvas::new(40, 40);
        canvas.rectangle((10.0, 10.0), (20.0, 20.0), INK);
        canvas.disc((30.0, 30.0), 5.0, INK);
        canvas.triangle([(0.0, 20.0), (8.0, 20.0), (0.0, 39.0)], INK);
        let image = canvas.into_image();
        let at = |x, y| image.get_pixel(x, y).0;
        assert_eq!([at(15, 15), at(30, 30), at(2, 25)], [INK; 3]);
        assert_eq!([at(5, 5), at(36, 36), at(8, 38), at(22, 15)], [WHITE; 4]);
    }

    #[test]
    fn a_slanted_line_has_smooth_edges() {
        let mut canvas = Canvas::new(40, 40);
        canvas.line((2.0, 3.0), (37.0, 30.0), 2.0, INK);
        let image = canvas.into_image();
        assert!(image.pixels().any(|pixel| pixel.0 == INK));
        assert!(image.pixels().any(|pixel| pixel.0 != INK && pixel.0 != WHITE));
    }

    #[test]
    fn shapes_beyond_the_edge_are_cut() {
        let mut canvas = Canvas::new(8, 8);
        canvas.line((-50.0, -50.0), (90.0, 90.0), 3.0, INK);
        canvas.circle((-5.0, 4.0), 100.0, 2.0, INK);
        canvas.number(1_234_567_890, (-4.0, 2.0), 12.0, INK);
        assert_eq!(canvas.into_image().dimensions(), (8, 8));
    }
}
