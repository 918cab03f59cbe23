//! Plots as SVG, drawn by `plotters`.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Width and height in pixels.
const SIZE: (u32, u32) = (640, 360);
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 111, 180), RGBColor(209, 101, 26), RGBColor(58, 138, 58), RGBColor(138, 58, 138)];

/// A named line through points (x, y).
pub(crate) struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// The lines over a logarithmic x axis; the y axis begins at zero.
///
/// # Errors
/// Without a point, with an x that is not above zero, or with a coordinate that is not finite.
pub(crate) fn svg(title: &str, axes: [&str; 2], lines: &[Line]) -> Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    if let Some((x, y)) = points().find(|(x, y)| !(*x > 0.0 && x.is_finite() && y.is_finite())) {
        return Err(anyhow!("plot \"{title}\": the point ({x}, {y}) cannot be drawn over a logarithmic axis"));
    }
    let low = points().map(|point| point.0).reduce(f64::min).ok_or_else(|| anyhow!("plot \"{title}\": no points"))?;
    let high = points().map(|point| point.0).fold(low, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let mut out = String::new();
    draw(&mut out, title, axes, lines, [low / 1.5, high * 1.5], if top > 0.0 { 1.1 * top } else { 1.0 })
        .map_err(|error| anyhow!("plot \"{title}\": {error}"))?;
    Ok(out)
}

fn draw(
    out: &mut String,
    title: &str,
    axes: [&str; 2],
    lines: &[Line],
    [low, high]: [f64; 2],
    top: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(out, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((low..high).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(axes[0])
        .y_desc(axes[1])
        .x_label_formatter(&|x| format!("{x:e}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_inside_the_picture() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.to_vec() };
        let lines = [line("a < b", &[(1e5, 10.0), (1e6, 12.0), (1e7, 11.5)]), line("c", &[(1e5, 0.0)])];
        let plot = svg("t", ["x", "y"], &lines).unwrap();
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
    fn what_cannot_be_drawn_is_refused() {
        let refused = |points: &[(f64, f64)]| {
            svg("t", ["x", "y"], &[Line { name: "a".into(), points: points.to_vec() }]).unwrap_err().to_string()
        };
        assert!(refused(&[]).contains("no points"));
        assert!(refused(&[(0.0, 1.0)]).contains("(0, 1)"));
        assert!(refused(&[(1.0, f64::NAN)]).contains("(1, NaN)"));
    }
}
