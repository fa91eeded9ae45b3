//! Charts as SVG, for the page and as files. On the page they take its colours (`--ink`, `--card`, `--line`,
//! `--s0` to `--s7`); elsewhere they are dark on white.

use std::fmt::Write;

/// A measured point.
pub struct Point {
    /// Its position on the x axis.
    pub x: f64,
    /// Its value.
    pub y: f64,
    /// Half the length of its error bar; 0 for none.
    pub spread: f64,
}

/// The kind of x axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// One position for every x that occurs, evenly spaced whatever their values; points are marked.
    Places,
    /// A numeric axis.
    Numbers,
    /// The same, with points and no lines.
    Scatter,
}

/// One chart.
pub struct Panel {
    /// Heading.
    pub title: String,
    /// Label of the x axis.
    pub x_axis: String,
    /// Kind of the x axis.
    pub axis: Axis,
    /// Lines by name; the same order in every panel, so that colours agree.
    pub series: Vec<(String, Vec<Point>)>,
}

/// A row of [`forest`].
pub struct Whisker {
    /// Its name.
    pub name: String,
    /// Its value.
    pub mean: f64,
    /// Half the width of its interval.
    pub half: Option<f64>,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
// Space around a panel's axes.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 42.0;
/// Okabe & Ito's colours, which colour-blind readers can distinguish.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a5a2b", "#666666",
];
const INK: &str = "var(--ink,#222)";

/// Colour of the line with this index.
pub fn colour(line: usize) -> String {
    let i = line % COLOURS.len();
    format!("var(--s{i},{})", COLOURS[i])
}

/// Dashes of the line with this index: solid until the colours are used up.
pub fn dashes(line: usize) -> &'static str {
    ["none", "6 3", "2 3"][line / COLOURS.len() % 3]
}

/// One chart without a legend.
pub fn chart(panel: &Panel) -> String {
    let label = escape(&panel.title);
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\" \
         fill=\"{INK}\">\n{}</svg>\n",
        drawn(panel)
    )
}

/// Panels side by side over one legend, as a file.
pub fn figure(panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, 3);
    let rows = panels.len().div_ceil(columns);
    let (width, height) = (columns as f64 * WIDTH, rows as f64 * HEIGHT + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"{INK}\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#fff\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = ((i % columns) as f64 * WIDTH, (i / columns) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", drawn(panel));
    }
    let mut x = LEFT;
    for (i, (name, _)) in panels.first().iter().flat_map(|p| p.series.iter()).enumerate() {
        let (y, colour) = (height - 12.0, colour(i));
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

/// Differences from zero with their intervals, one row each.
pub fn forest(title: &str, whiskers: &[Whisker]) -> String {
    const NAMES: f64 = 130.0;
    const ROW: f64 = 20.0;
    let height = TOP + ROW * whiskers.len() as f64 + 26.0;
    let least = whiskers
        .iter()
        .map(|w| w.mean - w.half.unwrap_or(0.0))
        .fold(0.0, f64::min);
    let most = whiskers
        .iter()
        .map(|w| w.mean + w.half.unwrap_or(0.0))
        .fold(0.0, f64::max);
    let scale = Scale::over(least, most, NAMES + 10.0, WIDTH - RIGHT - 6.0);
    let label = escape(title);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\" \
         fill=\"{INK}\">\n\
         <text x=\"0\" y=\"16\" font-weight=\"bold\">{label}</text>\n"
    );
    let bottom = height - 22.0;
    for value in scale.ticks() {
        let (x, width) = (scale.at(value), if value.abs() < 1e-9 { 1.6 } else { 1.0 });
        let ink = if value.abs() < 1e-9 {
            INK
        } else {
            "var(--line,#ddd)"
        };
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {}V{bottom}\" stroke=\"{ink}\" stroke-width=\"{width}\"/><text x=\"{x:.1}\" \
             y=\"{}\" text-anchor=\"middle\">{}</text>",
            TOP - 4.0,
            bottom + 15.0,
            scale.text(value)
        );
    }
    for (i, Whisker { name, mean, half }) in whiskers.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let (x, reach) = (scale.at(*mean), half.unwrap_or(0.0));
        // Grey if the interval contains zero; hollow and grey if there is no interval.
        let colour = colour(if half.is_none_or(|half| mean.abs() <= half) {
            7
        } else {
            usize::from(*mean < 0.0)
        });
        let fill = if half.is_some() {
            &colour
        } else {
            "var(--card,#fff)"
        };
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}</text><path d=\"M{:.1} {y:.1}H{:.1}\" stroke=\"{colour}\" \
             stroke-width=\"2\"/>\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\" \
             stroke-width=\"1.5\"/>",
            y + 4.0,
            escape(&shortened(name, 22)),
            scale.at(mean - reach),
            scale.at(mean + reach),
        );
    }
    svg + "</svg>\n"
}

fn drawn(
    Panel {
        title,
        x_axis,
        axis,
        series,
    }: &Panel,
) -> String {
    let points = || {
        series
            .iter()
            .flat_map(|(_, points)| points)
            .filter(|p| p.y.is_finite())
    };
    let mut places: Vec<f64> = points().map(|p| p.x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let mut svg = format!(
        "<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}</text>\n",
        escape(&shortened(title, 50))
    );
    let (Some(&first), Some(&last)) = (places.first(), places.last()) else {
        return svg;
    };
    let least = points().map(|p| p.y - p.spread).fold(f64::INFINITY, f64::min);
    let most = points().map(|p| p.y + p.spread).fold(f64::NEG_INFINITY, f64::max);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let y_scale = Scale::over(least, most, bottom, TOP);
    for value in y_scale.ticks() {
        let y = y_scale.at(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"var(--line,#ddd)\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            y_scale.text(value)
        );
    }
    let x_scale = match axis {
        Axis::Numbers => Scale::over(first.min(0.0), last, LEFT, right),
        Axis::Scatter => Scale::over(first, last, LEFT + 4.0, right - 8.0),
        Axis::Places => Scale {
            least: -0.5,
            most: places.len() as f64 - 0.5,
            step: 1.0,
            from: LEFT,
            to: right,
        },
    };
    let sx = |x: f64| match axis {
        Axis::Numbers | Axis::Scatter => x_scale.at(x),
        Axis::Places => x_scale.at(places.iter().position(|&p| p == x).unwrap_or(0) as f64),
    };
    let (ticks, text): (Vec<f64>, &dyn Fn(f64) -> String) = match axis {
        Axis::Numbers | Axis::Scatter => (x_scale.ticks(), &|x| x_scale.text(x)),
        Axis::Places => (places.clone(), &|x| x.to_string()),
    };
    for place in ticks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            sx(place),
            bottom + 15.0,
            text(place)
        );
    }
    let middle = (LEFT + right) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        bottom + 31.0,
        escape(x_axis)
    );
    for (i, (name, points)) in series.iter().enumerate() {
        let (colour, dashes, name) = (colour(i), dashes(i), escape(name));
        let mut points: Vec<&Point> = points.iter().filter(|p| p.y.is_finite()).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let line: Vec<String> = points
            .iter()
            .map(|p| format!("{:.1},{:.1}", sx(p.x), y_scale.at(p.y)))
            .collect();
        let width = if *axis == Axis::Places { 2.0 } else { 1.6 };
        if *axis != Axis::Scatter {
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\" stroke-dasharray=\"{dashes}\"><title>{name}</title></polyline>",
                line.join(" ")
            );
        }
        for p in points.into_iter().filter(|_| *axis != Axis::Numbers) {
            let (x, y) = (sx(p.x), y_scale.at(p.y));
            if p.spread > 0.0 {
                let (top, foot) = (y_scale.at(p.y + p.spread), y_scale.at(p.y - p.spread));
                let _ = writeln!(
                    svg,
                    "<path d=\"M{x:.1} {top:.1}V{foot:.1}\" stroke=\"{colour}\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{name}: \
                 {:.2}</title></circle>",
                p.y
            );
        }
    }
    svg
}

/// An axis with round steps, from `least` at `from` to `most` at `to`.
struct Scale {
    least: f64,
    most: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(least: f64, most: f64, from: f64, to: f64) -> Self {
        // If all values are equal, they are drawn in the middle.
        let room = if most - least > 1e-6 * most.abs() {
            0.0
        } else {
            (most.abs() * 0.1).max(0.1)
        };
        let (least, most) = (least - room, most + room);
        let step = nice((most - least) / 4.0);
        let least = (least / step).floor() * step;
        Scale {
            least,
            most: ((most / step).ceil() * step).max(least + step),
            step,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value - self.least) / (self.most - self.least)
    }

    fn ticks(&self) -> Vec<f64> {
        (0..=((self.most - self.least) / self.step).round() as u32)
            .map(|tick| self.least + f64::from(tick) * self.step)
            .collect()
    }

    fn text(&self, value: f64) -> String {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        // No -0.0.
        let value = if value.abs() < self.step / 2.0 { 0.0 } else { value };
        format!("{value:.digits$}").replace('-', "−")
    }
}

// The next of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&s| s >= step * 0.999)
        .unwrap_or(10.0 * power)
}

pub(crate) fn shortened(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([0.3, 1.0, 1.2, 7.0, 40.0].map(nice), [0.5, 1.0, 2.0, 10.0, 50.0]);
        assert_eq!(Scale::over(0.0, 0.37, 0.0, 1.0).ticks().len(), 5);
        let alike = Scale::over(2.5, 2.5, 0.0, 1.0);
        assert!(alike.ticks().len() < 8 && alike.text(2.5).len() < 5 && (alike.at(2.5) - 0.5).abs() < 0.1);
    }

    #[test]
    fn every_point_is_drawn_inside_its_panel() {
        let point = |x: f64, y: f64| Point { x, y, spread: 0.5 };
        let series = || {
            vec![
                ("a < b".into(), vec![point(8.0, 3.0), point(64.0, 9.0)]),
                ("c".into(), vec![point(8.0, -1.0), point(9.0, f64::NAN)]),
            ]
        };
        let panel = |axis, series| Panel {
            title: "t".into(),
            x_axis: "classes".into(),
            axis,
            series,
        };
        let svg = figure(&[panel(Axis::Places, series()), panel(Axis::Places, vec![])])
            + &chart(&panel(Axis::Numbers, series()));
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
        let points = svg.lines().filter(|line| line.contains("r=\"3.5\""));
        let height = |line: &str| line.split("cy=\"").nth(1)?.split('"').next()?.parse().ok();
        let heights: Vec<f64> = points.filter_map(height).collect();
        assert_eq!(heights.len(), 3);
        assert!(
            heights.iter().all(|y| (TOP..=HEIGHT - BOTTOM).contains(y)),
            "{heights:?}"
        );
    }

    #[test]
    fn a_forest_shows_nought_and_every_row() {
        let whisker = |name: &str, mean| Whisker {
            name: name.into(),
            mean,
            half: (mean < 2.0).then_some(0.4),
        };
        let svg = forest(
            "AP",
            &[
                whisker("one", 1.0),
                whisker("a name that is far too long for it", 3.0),
            ],
        );
        assert!(
            svg.contains(">0</text>") && svg.contains('…') && svg.matches("<circle").count() == 2,
            "{svg}"
        );
    }
}
