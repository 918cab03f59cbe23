//! A plot as SVG: lines over a logarithmic axis.

/// Width and height of the drawing, and what is left around the axes.
const SIZE: [f64; 2] = [640.0, 360.0];
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 4] = ["#1f6fb4", "#d1651a", "#3a8a3a", "#8a3a8a"];

/// A named line through points (x, y), x positive.
pub(crate) struct Line {
    pub name: String,
    pub points: Vec<[f64; 2]>,
}

/// The lines over powers of ten, from zero upwards.
pub(crate) fn svg(title: &str, axes: [&str; 2], lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let low = points().map(|point| point[0].log10()).fold(f64::INFINITY, f64::min).floor();
    let high = points().map(|point| point[0].log10()).fold(low + 1.0, f64::max).ceil();
    let step = tick(points().map(|point| point[1]).fold(0.0, f64::max));
    let top = step * (points().map(|point| point[1]).fold(step, f64::max) / step).ceil();
    let x = |value: f64| LEFT + (value.log10() - low) / (high - low) * (SIZE[0] - LEFT - RIGHT);
    let y = |value: f64| SIZE[1] - BOTTOM - value / top * (SIZE[1] - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE[0], SIZE[1]
    );
    let text = |at: [f64; 2], anchor: &str, colour: &str, text: &str| {
        format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>\n",
            at[0],
            at[1],
            escaped(text)
        )
    };
    out += &text([SIZE[0] / 2.0, 18.0], "middle", "black", title);
    out += &text([SIZE[0] / 2.0, SIZE[1] - 12.0], "middle", "black", axes[0]);
    out += &text([8.0, TOP - 8.0], "start", "black", axes[1]);
    for power in low as i32..=high as i32 {
        let at = x(10f64.powi(power));
        out += &rule([at, y(0.0)], [at, y(top)]);
        out += &text([at, y(0.0) + 18.0], "middle", "black", &format!("1e{power}"));
    }
    for mark in 0..=(top / step).round() as u32 {
        let value = f64::from(mark) * step;
        out += &rule([LEFT, y(value)], [SIZE[0] - RIGHT, y(value)]);
        out += &text([LEFT - 6.0, y(value) + 4.0], "end", "black", &format!("{}", (value * 1e6).round() / 1e6));
    }
    for (i, line) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let at: Vec<String> =
            line.points.iter().map(|point| format!("{:.1},{:.1}", x(point[0]), y(point[1]))).collect();
        out +=
            &format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n", at.join(" "));
        for point in &line.points {
            out +=
                &format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n", x(point[0]), y(point[1]));
        }
        out += &text([LEFT + 10.0, y(0.0) - 12.0 - 16.0 * i as f64], "start", colour, &line.name);
    }
    out + "</svg>\n"
}

fn rule(from: [f64; 2], to: [f64; 2]) -> String {
    format!(
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\n",
        from[0], from[1], to[0], to[1]
    )
}

/// A round step that cuts `top` into about five.
fn tick(top: f64) -> f64 {
    let rough = if top > 0.0 { top / 5.0 } else { 1.0 };
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|&step| step >= rough).unwrap_or(10.0 * power)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_inside_the_axes() {
        let line = |name: &str, points: &[[f64; 2]]| Line { name: name.into(), points: points.to_vec() };
        let lines = [line("a < b", &[[1e5, 10.0], [1e6, 12.0], [1e7, 11.5]]), line("c", &[[1e5, 0.0]])];
        let plot = svg("t", ["x", "y"], &lines);
        let circles: Vec<&str> = plot.lines().filter(|line| line.starts_with("<circle")).collect();
        assert_eq!(circles.len(), 4);
        for circle in circles {
            let number =
                |name: &str| -> f64 { circle.split(name).nth(1).unwrap().split('"').nth(1).unwrap().parse().unwrap() };
            let (x, y) = (number("cx="), number("cy="));
            assert!((LEFT..=SIZE[0] - RIGHT).contains(&x) && (TOP..=SIZE[1] - BOTTOM).contains(&y), "{circle}");
        }
        assert!(plot.contains("a &lt; b") && plot.contains("1e7") && plot.ends_with("</svg>\n"));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!([tick(12.0), tick(0.7), tick(100.0), tick(0.0)], [5.0, 0.2, 20.0, 1.0]);
    }
}
