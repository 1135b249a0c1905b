//! Drawings as inline SVG, by hand: lines over two axes. A plotting library would put colours and fonts into every element;
//! here they are classes, so that the page's style sheet makes them light or dark.

use core::fmt::Write;

use super::{Axis, Plot};

/// Size of a drawing, and what its axes leave on each side.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 48.0;
/// Classes of lines in the style sheet.
const COLOURS: usize = 8;

/// One axis over the range of what is drawn on it.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64> + Clone, axis: &Axis) -> Self {
        let usable = values.filter(|value| value.is_finite() && (!axis.logarithmic || *value > 0.0));
        let (low, high) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        if axis.logarithmic {
            let (low, high) = (low.max(f64::MIN_POSITIVE).log10(), high.max(f64::MIN_POSITIVE).log10());
            let (low, high) = (low.floor(), high.ceil());
            return Self { low, high: if high > low { high } else { low + 1.0 }, logarithmic: true };
        }
        // A cost is read against nothing.
        let (low, high) = (low.min(0.0), if high > low.min(0.0) { high } else { low + 1.0 });
        let step = step(high - low);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, logarithmic: false }
    }

    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Values that get a line and a label.
    fn ticks(&self) -> Vec<f64> {
        let step = if self.logarithmic { 1.0 } else { step(self.high - self.low) };
        let mut ticks = Vec::new();
        let mut at = self.low;
        while at <= self.high + step / 2.0 && ticks.len() < 32 {
            ticks.push(if self.logarithmic { 10_f64.powf(at) } else { at });
            at += step;
        }
        ticks
    }
}

/// A round step that cuts a span into five to ten.
fn step(span: f64) -> f64 {
    let rough = span / 8.0;
    let decade = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * decade).find(|step| *step >= rough).unwrap_or(decade * 10.0)
}

/// A tick's label: `10k`, `2.5M`, `120`.
fn label(value: f64) -> String {
    let (part, unit) = match value.abs() {
        large if large >= 1e9 => (value / 1e9, "G"),
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{part:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

/// Text that means itself in HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The drawing.
pub(super) fn drawn(plot: &Plot) -> String {
    let usable = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let points = || plot.lines.iter().flat_map(|line| line.points.iter()).filter(usable);
    let across = Scale::over(points().map(|&(x, _)| x).collect::<Vec<_>>().into_iter(), &plot.x);
    let up = Scale::over(points().map(|&(_, y)| y).collect::<Vec<_>>().into_iter(), &plot.y);
    let x = |value: f64| LEFT + across.place(value) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - up.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    let _ = write!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(&plot.title));
    for tick in across.ticks() {
        let at = x(tick);
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>");
        let _ = write!(svg, "<text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>", bottom + 16.0, label(tick));
    }
    for tick in up.ticks() {
        let at = y(tick);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
        let _ = write!(svg, "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, at + 4.0, label(tick));
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = write!(svg, "<text class=\"x\" x=\"{middle}\" y=\"{}\">{}</text>", HEIGHT - 8.0, escaped(&plot.x.title));
    let centre = TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
    let turned = format!("<text class=\"x\" transform=\"translate(14 {centre}) rotate(-90)\">");
    let _ = write!(svg, "{turned}{}</text>", escaped(&plot.y.title));
    for (number, line) in plot.lines.iter().enumerate() {
        let colour = number % COLOURS;
        let path: Vec<String> =
            line.points.iter().filter(usable).map(|&(a, b)| format!("{:.1} {:.1}", x(a), y(b))).collect();
        if path.is_empty() {
            continue;
        }
        let name = escaped(&line.name);
        let _ = write!(svg, "<path class=\"line c{colour}\" d=\"M{}\"><title>{name}</title></path>", path.join("L"));
        if line.points.len() <= 32 {
            for &(a, b) in line.points.iter().filter(usable) {
                let _ = write!(
                    svg,
                    "<circle class=\"c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{name}: {}, {}</title></circle>",
                    x(a),
                    y(b),
                    label(a),
                    label(b)
                );
            }
        }
    }
    svg.push_str("</svg>");
    if plot.lines.len() > 1 {
        svg.push_str("<p class=\"legend\">");
        for (number, line) in plot.lines.iter().enumerate() {
            let _ = write!(svg, "<span class=\"c{}\">&#9632; {}</span> ", number % COLOURS, escaped(&line.name));
        }
        svg.push_str("</p>");
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;

    fn plot(points: Vec<(f64, f64)>, logarithmic: bool) -> Plot {
        let axis = |logarithmic| Axis { title: "a <b>".into(), logarithmic };
        Plot { title: "t".into(), x: axis(logarithmic), y: axis(false), lines: vec![Line { name: "n".into(), points }] }
    }

    #[test]
    fn ticks_are_round_and_cover_what_is_drawn() {
        let linear = Scale::over([3.0, 97.0].into_iter(), &Axis::default());
        assert_eq!((linear.low, linear.high), (0.0, 100.0));
        assert_eq!(linear.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let powers = Scale::over([1_000.0, 1_000_000.0].into_iter(), &Axis { logarithmic: true, ..Axis::default() });
        assert_eq!(powers.ticks().iter().map(|&tick| label(tick)).collect::<Vec<_>>(), ["1000", "10k", "100k", "1M"]);
    }

    #[test]
    fn odd_values_draw_something_without_a_fault() {
        let odd = [
            vec![],
            vec![(0.0, 0.0)],
            vec![(f64::NAN, 1.0), (1.0, f64::INFINITY), (-5.0, -5.0)],
            vec![(1e-300, 1e300)],
        ];
        for points in odd {
            for logarithmic in [false, true] {
                let svg = drawn(&plot(points.clone(), logarithmic));
                assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
                assert!(svg.contains("a &lt;b&gt;"));
            }
        }
    }

    #[test]
    fn labels_are_short() {
        for (value, written) in
            [(0.0, "0"), (2_500_000.0, "2.5M"), (10_000.0, "10k"), (0.25, "0.25"), (120.0, "120"), (-0.0, "0")]
        {
            assert_eq!(label(value), written);
        }
    }
}
