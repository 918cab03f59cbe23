//! Plots as SVG, drawn by `plotters`.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// Width and height in pixels.
const SIZE: (u32, u32) = (640, 360);
const COLOURS: [RGBColor; 10] = [
    RGBColor(31, 111, 180),
    RGBColor(209, 101, 26),
    RGBColor(58, 138, 58),
    RGBColor(138, 58, 138),
    RGBColor(190, 45, 60),
    RGBColor(20, 140, 150),
    RGBColor(120, 95, 60),
    RGBColor(215, 130, 180),
    RGBColor(110, 110, 110),
    RGBColor(170, 160, 30),
];

/// The colour of the n-th line of a picture, for CSS. After ten lines the colours repeat.
pub(crate) fn colour(line: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[line % COLOURS.len()];
    format!("rgb({red},{green},{blue})")
}

/// A named line through points (x, y).
pub(crate) struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// What is drawn.
pub(crate) struct Plot<'a> {
    pub title: &'a str,
    pub axes: [&'a str; 2],
    pub lines: &'a [Line],
    pub scale: Scale,
    /// Whether the names of the lines are in the picture.
    pub legend: bool,
}

/// How the axes are divided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Both evenly, around the points.
    Linear,
    /// The x axis by powers; the y axis evenly, from zero.
    LogX,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The picture of a plot.
///
/// # Errors
/// Without a point, with a coordinate that is not finite, or with an x that a logarithmic axis cannot show.
pub(crate) fn svg(plot: &Plot<'_>) -> Result<String> {
    let Plot { title, lines, scale, .. } = *plot;
    let points = || lines.iter().flat_map(|line| &line.points);
    let fits = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (*x > 0.0 || scale == Scale::Linear);
    if let Some((x, y)) = points().find(|point| !fits(point)) {
        return Err(anyhow!("plot \"{title}\": the point ({x}, {y}) cannot be drawn"));
    }
    let low = points().map(|point| point.0).reduce(f64::min).ok_or_else(|| anyhow!("plot \"{title}\": no points"))?;
    let high = points().map(|point| point.0).fold(low, f64::max);
    let bottom = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let top = points().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let mut out = String::new();
    let drawn = match scale {
        Scale::LogX => {
            let top = if top > 0.0 { 1.1 * top } else { 1.0 };
            area(&mut out, |area| draw(area, plot, ((low / 1.5)..(high * 1.5)).log_scale(), 0.0..top))
        }
        Scale::Linear => {
            let (side, above) = (margin(low, high), margin(bottom, top));
            let y = (bottom - above)..(top + above);
            area(&mut out, |area| draw(area, plot, (low - side)..(high + side), y))
        }
    };
    drawn.map_err(|error| anyhow!("plot \"{title}\": {error}"))?;
    Ok(out)
}

/// Room around points from `low` to `high`; some even if all are equal.
fn margin(low: f64, high: f64) -> f64 {
    if high > low { 0.06 * (high - low) } else { 0.1 * low.abs().max(1e-3) }
}

fn area(out: &mut String, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn {
    let area = SVGBackend::with_string(out, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present()?;
    Ok(())
}

fn draw<X>(
    area: &Area<'_>,
    plot: &Plot<'_>,
    x: impl AsRangedCoord<CoordDescType = X, Value = f64>,
    y: Range<f64>,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(plot.title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(plot.axes[0])
        .y_desc(plot.axes[1])
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| label(*y))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, colour) in plot.lines.iter().zip(COLOURS.into_iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
    }
    if plot.legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    Ok(())
}

/// A number on an axis, short: 0.75, 1200, 1e6.
fn label(number: f64) -> String {
    match number.abs() {
        size if size >= 1e5 => format!("{number:e}"),
        size if size >= 100.0 => format!("{number:.0}"),
        _ => {
            let text = format!("{number:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(lines: &[Line]) -> Result<String> {
        svg(&Plot { title: "t", axes: ["x", "y"], lines, scale: Scale::LogX, legend: true })
    }

    #[test]
    fn every_point_is_drawn_inside_the_picture() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.to_vec() };
        let lines = [line("a < b", &[(1e5, 10.0), (1e6, 12.0), (1e7, 11.5)]), line("c", &[(1e5, 0.0)])];
        let plot = drawn(&lines).unwrap();
        let circles: Vec<&str> = plot.lines().filter(|line| line.starts_with("<circle")).collect();
        assert_eq!(circles.len(), 4);
        for circle in circles {
            let number =
                |name: &str| -> u32 { circle.split(name).nth(1).unwrap().split('"').nth(1).unwrap().parse().unwrap() };
            assert!(number("cx=") < SIZE.0 && number("cy=") < SIZE.1, "{circle}");
        }
        assert!(plot.contains("a &lt; b") && plot.contains("1e6"), "{plot}");
        assert!(plot.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn an_impossible_draw_is_refused() {
        let refused = |points: &[(f64, f64)]| {
            drawn(&[Line { name: "a".into(), points: points.to_vec() }]).unwrap_err().to_string()
        };
        assert!(refused(&[]).contains("no points"));
        assert!(refused(&[(0.0, 1.0)]).contains("(0, 1)"));
        assert!(refused(&[(1.0, f64::NAN)]).contains("(1, NaN)"));
    }
}
