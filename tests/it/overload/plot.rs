//! The figures as a picture: goodput, latency and memory against what was offered, in SVG.
//!
//! Without a background and in tones between light and dark, so that it is read on either.

use std::fmt::Write as _;

use super::{
    Proof,
    figures::{Step, megabytes},
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 330.0;
/// The drawing area of one of the three panels, and where the first one's upper left corner is.
const PANEL: (f64, f64) = (240.0, 190.0);
const FIRST: (f64, f64) = (58.0, 78.0);
const APART: f64 = 320.0;

const TEXT: &str = "#768390";
const BLUE: &str = "#3b82f6";
const ORANGE: &str = "#d9730d";
const GREEN: &str = "#2da44e";

/// Lines over the same x: multiples of the capacity.
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    lines: Vec<Line<'a>>,
    /// A level to compare them with.
    level: (&'a str, f64),
}

struct Line<'a> {
    name: &'a str,
    color: &'a str,
    y: Vec<f64>,
}

/// Draws the whole picture.
pub(super) fn draw(proof: &Proof) -> String {
    let steps = &proof.steps;
    let line = |name, color, y: fn(&Step) -> f64| Line { name, color, y: steps.iter().map(y).collect() };
    let panels = [
        Panel {
            title: "Goodput",
            unit: "answers/s",
            lines: vec![line("answered", GREEN, |step| step.goodput)],
            level: ("capacity", proof.capacity),
        },
        Panel {
            title: "Latency",
            unit: "ms",
            lines: vec![
                line("admitted p99", ORANGE, |step| step.answered.p99),
                line("admitted p50", BLUE, |step| step.answered.p50),
                line("refused p99", GREEN, |step| step.refused.p99),
            ],
            level: ("2 × p99 at 1×", steps.first().map_or(0.0, |step| 2.0 * step.answered.p99)),
        },
        Panel {
            title: "Memory",
            unit: "MB resident",
            lines: vec![line("peak", BLUE, |step| megabytes(step.memory.peak))],
            level: ("before the load", megabytes(proof.memory.0)),
        },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n\
         <title>Goodput, latency and memory at one to ten times the capacity</title>\n"
    );
    let times: Vec<_> = steps.iter().map(|step| f64::from(step.times)).collect();
    for (at, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, FIRST.0 + at as f64 * APART, &times, proof.capacity);
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel<'_> {
    /// Draws it with its left edge at `left`. Writing into a string cannot fail.
    fn draw(&self, svg: &mut String, left: f64, times: &[f64], capacity: f64) {
        let ((width, height), top) = (PANEL, FIRST.1);
        let bottom = top + height;
        let highest = self.lines.iter().flat_map(|line| &line.y).copied().fold(self.level.1, f64::max);
        let tick = tick(highest);
        let scale = Scale {
            left,
            bottom,
            x: width / times.iter().copied().fold(1.0, f64::max),
            y: height / (tick * (highest / tick).ceil()),
        };

        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"20\" font-size=\"15\" font-weight=\"600\">{}, {}</text>",
            self.title, self.unit
        );
        self.legend(svg, left);
        for n in 0..=(highest / tick).ceil() as u32 {
            let value = tick * f64::from(n);
            let y = scale.at(0.0, value).1;
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {y:.1}h{width}\" stroke=\"{TEXT}\" stroke-opacity=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                if n == 0 { 1.0 } else { 0.25 },
                left - 6.0,
                y + 4.0
            );
        }
        for times in times {
            let x = scale.at(*times, 0.0).0;
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {bottom}v4\" stroke=\"{TEXT}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{times}×</text>",
                bottom + 17.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">offered load (1× = {capacity:.0} requests/s)</text>",
            left + width / 2.0,
            bottom + 38.0
        );

        let level = scale.at(0.0, self.level.1).1;
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {level:.1}h{width}\" stroke=\"{TEXT}\" stroke-dasharray=\"5 4\" stroke-width=\"1.5\"/>"
        );
        for line in &self.lines {
            let points: Vec<_> = times.iter().zip(&line.y).map(|(x, y)| scale.at(*x, *y)).collect();
            let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.5\"/>",
                path.join(" "),
                line.color
            );
            for (x, y) in points {
                let _ =
                    writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{}\"/>", line.color);
            }
        }
    }

    /// What each line is, in two columns under the title.
    fn legend(&self, svg: &mut String, left: f64) {
        let lines = self.lines.iter().map(|line| (line.name, line.color, ""));
        let level = (self.level.0, TEXT, " stroke-dasharray=\"5 4\"");
        for (at, (name, color, dashes)) in lines.chain([level]).enumerate() {
            let (x, y) = (left + 122.0 * (at % 2) as f64, 40.0 + 18.0 * (at / 2) as f64);
            let _ = writeln!(
                svg,
                "<path d=\"M{x} {:.1}h18\" stroke=\"{color}\" stroke-width=\"2.5\"{dashes}/>\
                 <text x=\"{}\" y=\"{y}\">{name}</text>",
                y - 4.0,
                x + 24.0
            );
        }
    }
}

/// From values to the picture's coordinates.
struct Scale {
    left: f64,
    bottom: f64,
    x: f64,
    y: f64,
}

impl Scale {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.left + x * self.x, self.bottom - y * self.y)
    }
}

/// A round distance between ticks, of which three to eight reach `highest`.
fn tick(highest: f64) -> f64 {
    let power = 10_f64.powf(highest.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [0.2, 0.5, 1.0, 2.0].map(|step| step * power);
    steps.into_iter().find(|step| highest / step <= 7.0).unwrap_or(2.0 * power)
}

#[test]
fn ticks_are_round_and_neither_few_nor_many() {
    for (highest, expected) in [(97.0, 20.0), (31.0, 5.0), (432.0, 100.0), (1.3, 0.2), (7.5, 2.0)] {
        assert!((tick(highest) - expected).abs() < 1e-9, "{highest}: {}", tick(highest));
    }
    for highest in 1..5_000 {
        let highest = f64::from(highest) / 10.0;
        let ticks = (highest / tick(highest)).ceil();
        assert!((3.0..=8.0).contains(&ticks), "{highest}: {ticks}");
    }
}
