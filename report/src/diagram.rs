//! The critical difference diagram of Demsar (2006, Figure 1): methods on an axis of mean ranks, those that
//! do not differ joined by a bar.

use crate::chart::{escape, shortened};
use std::fmt::Write;

const WIDTH: f64 = 612.0;
const SIDE: f64 = 176.0;
/// Longest name in characters.
const NAME: usize = 18;
const ROW: f64 = 17.0;
const INK: &str = "var(--ink,#222)";

/// Methods by name with their mean ranks, and the difference beyond which two differ.
pub fn critical_difference(title: &str, methods: &[(String, f64)], difference: f64) -> String {
    let mut methods: Vec<&(String, f64)> = methods.iter().collect();
    methods.sort_by(|a, b| a.1.total_cmp(&b.1));
    let count = methods.len();
    let at = |rank: f64| SIDE + (WIDTH - 2.0 * SIDE) * (rank - 1.0) / (count as f64 - 1.0).max(1.0);
    let ranks: Vec<f64> = methods.iter().map(|method| method.1).collect();
    let bars = bars(&ranks, difference);
    let axis = 62.0;
    let first = axis + 16.0 + 9.0 * bars.len() as f64;
    let half = count.div_ceil(2);
    let height = first + ROW * half as f64 + 8.0;
    let label = escape(title);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\" \
         fill=\"{INK}\">\n<text x=\"0\" y=\"14\" font-weight=\"bold\">{label}</text>\n\
         <path d=\"M{:.1} {axis}H{:.1}\" stroke=\"{INK}\"/>\n",
        at(1.0),
        at(count as f64)
    );
    for rank in 1..=count {
        let x = at(rank as f64);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {axis}v-5\" stroke=\"{INK}\"/><text x=\"{x:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{rank}</text>",
            axis - 9.0
        );
    }
    // The length of a difference, as far as the axis is long enough for it.
    let end = at(1.0 + difference).min(WIDTH - 4.0);
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} 32H{end:.1}m0 -3v6M{:.1} 29v6\" stroke=\"{INK}\" fill=\"none\"/><text x=\"{:.1}\" \
         y=\"27\" text-anchor=\"middle\">critical difference {difference:.2}</text>",
        at(1.0),
        at(1.0),
        (at(1.0) + end) / 2.0
    );
    for (i, (from, to)) in bars.iter().enumerate() {
        let y = axis + 9.0 + 9.0 * i as f64;
        let (from, to) = (at(ranks[*from]) - 3.0, at(ranks[*to]) + 3.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{from:.1} {y}H{to:.1}\" stroke=\"var(--s1,#d55e00)\" stroke-width=\"4\"/>"
        );
    }
    for (i, (name, rank)) in methods.into_iter().enumerate() {
        let left = i < half;
        let row = if left { i } else { count - 1 - i };
        let (x, y) = (at(*rank), first + ROW * (row as f64 + 0.5));
        let (edge, text, anchor) = match left {
            true => (SIDE - 20.0, SIDE - 24.0, "end"),
            false => (WIDTH - SIDE + 20.0, WIDTH - SIDE + 24.0, "start"),
        };
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {axis}V{y:.1}H{edge:.1}\" stroke=\"var(--s0,#0072b2)\" fill=\"none\"/>\
             <text x=\"{text:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{} <tspan \
             font-weight=\"bold\">{rank:.2}</tspan></text>",
            y + 4.0,
            escape(&shortened(name, NAME))
        );
    }
    svg + "</svg>\n"
}

/// First and last of each longest group of sorted ranks that differ by less than `difference`.
fn bars(ranks: &[f64], difference: f64) -> Vec<(usize, usize)> {
    let mut bars: Vec<(usize, usize)> = Vec::new();
    for from in 0..ranks.len() {
        let within = ranks.iter().rposition(|rank| rank - ranks[from] < difference);
        let to = within.unwrap_or(from);
        if to > from && bars.last().is_none_or(|last| to > last.1) {
            bars.push((from, to));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_long_as_they_can_be() {
        assert_eq!(bars(&[1.0, 1.5, 2.5, 4.0], 1.2), [(0, 1), (1, 2)]);
        assert_eq!(bars(&[1.0, 1.5, 2.5, 4.0], 5.0), [(0, 3)]);
        assert!(bars(&[1.0, 3.0], 1.0).is_empty());
    }

    #[test]
    fn every_method_is_drawn_inside() {
        let methods: Vec<(String, f64)> = (1..8).map(|i| (format!("a<b {i}"), f64::from(i))).collect();
        let svg = critical_difference("AP", &methods, 3.4);
        assert!(
            svg.matches("a&lt;b").count() == 7 && !svg.contains("NaN"),
            "{svg}"
        );
        assert!(svg.contains("critical difference 3.40"), "{svg}");
        // The longest label, at the width of a wide character.
        let longest = 6.6 * (NAME + " 1.00".len()) as f64;
        let labels = svg.lines().filter(|line| line.contains("text-anchor=\"start\""));
        for label in labels {
            let (_, rest) = label.split_once("<text x=\"").unwrap();
            let x: f64 = rest.split_once('"').unwrap().0.parse().unwrap();
            assert!(x + longest <= WIDTH, "{label}");
        }
        // Wider than the axis.
        assert!(!critical_difference("AP", &methods[..3], 9.0).contains("inf"));
    }
}
