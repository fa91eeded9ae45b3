//! Line charts as SVG, for reports and documents.

use std::fmt::Write;

/// A measured point.
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// Half the length of its error bar; 0 for none.
    pub spread: f64,
}

/// One chart.
pub struct Panel {
    pub title: String,
    /// Lines by name; the same order in every panel, so that colours agree.
    pub series: Vec<(String, Vec<Point>)>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
// Space around a panel's axes.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;
/// Okabe & Ito's colours, distinct to colour-blind readers too.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];

/// Panels side by side over one legend. Places on the x axis are evenly spaced, whatever their values.
pub fn figure(x_axis: &str, panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, 3);
    let rows = panels.len().div_ceil(columns);
    let (width, height) = (columns as f64 * WIDTH, rows as f64 * HEIGHT + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (i, one) in panels.iter().enumerate() {
        let (x, y) = ((i % columns) as f64 * WIDTH, (i / columns) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(x_axis, one));
    }
    let mut x = LEFT;
    for (i, (name, _)) in panels.first().iter().flat_map(|p| p.series.iter()).enumerate() {
        let (y, colour) = (height - 12.0, COLOURS[i % COLOURS.len()]);
        let _ = writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"{}\" r=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 4.0,
            x + 8.0,
            escape(name)
        );
        x += 30.0 + 6.5 * name.chars().count() as f64;
    }
    svg + "</svg>\n"
}

fn panel(x_axis: &str, Panel { title, series }: &Panel) -> String {
    let points = || series.iter().flat_map(|(_, points)| points);
    let mut places: Vec<f64> = points().map(|p| p.x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let least = points().map(|p| p.y - p.spread).fold(f64::INFINITY, f64::min);
    let most = points().map(|p| p.y + p.spread).fold(f64::NEG_INFINITY, f64::max);
    let mut svg = format!("<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}</text>\n", escape(title));
    if places.is_empty() {
        return svg;
    }
    let step = nice((most - least).max(1e-9) / 4.0);
    let (least, most) = ((least / step).floor() * step, ((most / step).ceil() * step).max(least + step));
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let sx = |x: f64| {
        let place = places.iter().position(|&p| p == x).unwrap_or(0) as f64;
        LEFT + (right - LEFT) * (place + 0.5) / places.len() as f64
    };
    let sy = |y: f64| bottom - (bottom - TOP) * (y - least) / (most - least);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    for tick in 0..=((most - least) / step).round() as u32 {
        let value = least + f64::from(tick) * step;
        let y = sy(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.digits$}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for &place in &places {
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{place}</text>", sx(place), bottom + 15.0);
    }
    let middle = (LEFT + right) / 2.0;
    let _ =
        writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 30.0, escape(x_axis));
    for (i, (_, points)) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let mut points: Vec<&Point> = points.iter().collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let line: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", sx(p.x), sy(p.y))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for p in points {
            let (x, y) = (sx(p.x), sy(p.y));
            if p.spread > 0.0 {
                let (top, foot) = (sy(p.y + p.spread), sy(p.y - p.spread));
                let _ = writeln!(svg, "<path d=\"M{x:.1} {top:.1}V{foot:.1}\" stroke=\"{colour}\"/>");
            }
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }
    svg
}

// The next of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= step * 0.999).unwrap_or(10.0 * power)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([0.3, 1.0, 1.2, 7.0, 40.0].map(nice), [0.5, 1.0, 2.0, 10.0, 50.0]);
    }

    #[test]
    fn every_point_is_drawn_inside_its_panel() {
        let point = |x: f64, y: f64| Point { x, y, spread: 0.5 };
        let series =
            vec![("a < b".into(), vec![point(8.0, 3.0), point(64.0, 9.0)]), ("c".into(), vec![point(8.0, -1.0)])];
        let svg =
            figure("classes", &[Panel { title: "t".into(), series }, Panel { title: "none".into(), series: vec![] }]);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
        let points = svg.lines().filter(|line| line.contains("r=\"3.5\""));
        let height = |line: &str| line.split("cy=\"").nth(1)?.split('"').next()?.parse().ok();
        let heights: Vec<f64> = points.filter_map(height).collect();
        assert_eq!(heights.len(), 3);
        assert!(heights.iter().all(|y| (TOP..=HEIGHT - BOTTOM).contains(y)), "{heights:?}");
    }
}
