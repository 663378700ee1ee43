//! Curves as SVG, in the colours of the page they stand on.
//!
//! *Invariant:* no point makes it panic, or draws outside of its plot: what is not finite is left out.

use super::escape;

/// x and y.
pub(crate) type Points = Vec<(f64, f64)>;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 710.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 250.0;
/// Colours there are.
const COLOURS: usize = 4;

/// What x is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Axis {
    /// From 0 on.
    Linear(&'static str),
    /// A share of all as the number of its nines: 1 is 90 %, 2 is 99 %, 3 is 99.9 %.
    Nines(&'static str),
}

/// A line with a name.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    name: String,
    points: Points,
}

/// Lines over the same x.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: &'static str,
    pub(crate) series: Vec<Series>,
}

impl Series {
    /// Of these points, by x.
    pub(crate) fn new(name: &str, points: Points) -> Series {
        let finite = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && x >= 0.0 && y >= 0.0;
        Series {
            name: name.to_owned(),
            points: points.into_iter().filter(finite).collect(),
        }
    }
}

impl Plot {
    /// Whether there is nothing to see.
    pub(crate) fn is_empty(&self) -> bool {
        self.points().next().is_none()
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.series.iter().flat_map(|series| &series.points)
    }

    /// The drawing, for a page that has the colours.
    pub(crate) fn svg(&self) -> String {
        let x_ticks = match self.x {
            Axis::Linear(_) => ticks(self.points().map(|point| point.0).fold(0.0, f64::max)),
            Axis::Nines(_) => {
                let most = self.points().map(|point| point.0).fold(1.0, f64::max);
                (0..=most.ceil().min(12.0) as u32).map(f64::from).collect()
            }
        };
        let y_ticks = ticks(self.points().map(|point| point.1).fold(0.0, f64::max));
        let at = |value: f64, ticks: &[f64], from: f64, to: f64| {
            let most = ticks.last().copied().unwrap_or(1.0);
            from + (to - from) * (value / most).min(1.0)
        };
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">"
        );
        let mut label = |x: f64, y: f64, anchor: &str, said: &str| {
            svg.push_str(&format!(
                "<text class=\"faint\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
                escape(said)
            ));
        };
        label(LEFT, 40.0, "start", self.y);
        for &tick in &y_ticks {
            label(
                LEFT - 8.0,
                at(tick, &y_ticks, BOTTOM, TOP) + 4.0,
                "end",
                &number(tick),
            );
        }
        for &tick in &x_ticks {
            let said = match self.x {
                Axis::Linear(_) => number(tick),
                Axis::Nines(_) => percent(tick),
            };
            label(at(tick, &x_ticks, LEFT, RIGHT), BOTTOM + 18.0, "middle", &said);
        }
        let (Axis::Linear(name) | Axis::Nines(name)) = self.x;
        label((LEFT + RIGHT) / 2.0, BOTTOM + 38.0, "middle", name);
        for &tick in &y_ticks {
            let y = at(tick, &y_ticks, BOTTOM, TOP);
            svg.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            ));
        }
        let mut legend = LEFT;
        for (index, series) in self.series.iter().enumerate() {
            let colour = index % COLOURS;
            svg.push_str(&format!(
                "<rect class=\"s{colour}\" x=\"{legend:.1}\" y=\"10\" width=\"10\" height=\"10\"/>\
                 <text x=\"{:.1}\" y=\"20\">{}</text>",
                legend + 16.0,
                escape(&series.name)
            ));
            legend += 40.0 + 7.5 * series.name.chars().count() as f64;
            let points: Vec<String> = series
                .points
                .iter()
                .map(|&(x, y)| {
                    let (x, y) = (at(x, &x_ticks, LEFT, RIGHT), at(y, &y_ticks, BOTTOM, TOP));
                    format!("{x:.1},{y:.1}")
                })
                .collect();
            svg.push_str(&format!(
                "<polyline class=\"s{colour}\" points=\"{}\"/>",
                points.join(" ")
            ));
        }
        svg.push_str("</svg>");
        svg
    }
}

/// Round numbers from 0 to `most` or a little more.
fn ticks(most: f64) -> Vec<f64> {
    const WANTED: f64 = 5.0;
    let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
    let unit = 10_f64.powf((most / WANTED).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|step| step * WANTED >= most * 0.999)
        .unwrap_or(most);
    let count = (most / step - 1e-9).ceil().clamp(1.0, 10.0) as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

fn number(value: f64) -> String {
    let rounded = |value: f64, unit: &str| {
        let text = format!("{value:.3}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value {
        value if value >= 1e6 => rounded(value / 1e6, "M"),
        value if value >= 1e4 => rounded(value / 1e3, "k"),
        value => rounded(value, ""),
    }
}

/// 0 %, 90 %, 99 %, 99.9 %, ...
fn percent(nines: f64) -> String {
    match nines as usize {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_greatest_value() {
        for (most, expected) in [
            (0.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (4.2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            (1000.0, vec![0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]),
        ] {
            let told: Vec<f64> = ticks(most)
                .iter()
                .map(|tick| (tick * 1e6).round() / 1e6)
                .collect();
            assert_eq!(told, expected);
        }
        for most in [1e-9, 0.37, 7.7, 12_345.6, 9e15] {
            assert!(
                ticks(most).last().is_some_and(|&last| last >= most * 0.999),
                "{most}"
            );
        }
        assert_eq!(ticks(f64::NAN).last(), Some(&1.0));
    }

    #[test]
    fn ticks_are_named_as_people_name_them() {
        assert_eq!(
            [0.0, 0.25, 900.0, 12_500.0, 2e6].map(number),
            ["0", "0.25", "900", "12.5k", "2M"]
        );
        assert_eq!(
            [0.0, 1.0, 2.0, 4.0].map(percent),
            ["0 %", "90 %", "99 %", "99.99 %"]
        );
    }

    #[test]
    fn points_stay_inside_whatever_they_are() {
        let wild = vec![
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
            (-1.0, 1.0),
            (0.0, 0.0),
            (13.5, 4.0),
        ];
        for x in [Axis::Linear("s"), Axis::Nines("share")] {
            let plot = Plot {
                title: String::new(),
                x,
                y: "ms",
                series: vec![Series::new("a", wild.clone())],
            };
            assert!(!plot.is_empty());
            let svg = plot.svg();
            let (_, drawn) = svg.split_once("points=\"").unwrap();
            let (drawn, _) = drawn.split_once('"').unwrap();
            let numbers: Vec<f64> = drawn
                .split([' ', ','])
                .map(|text| text.parse().unwrap())
                .collect();
            assert_eq!(numbers.len(), 4, "two points are left: {drawn}");
            assert!(numbers[0] >= LEFT && numbers[2] <= RIGHT, "{drawn}");
            assert!(numbers[3] >= TOP && numbers[1] <= BOTTOM, "{drawn}");
        }
        let none = Plot {
            title: String::new(),
            x: Axis::Linear("s"),
            y: "",
            series: vec![Series::new("a", vec![])],
        };
        assert!(none.is_empty() && none.svg().ends_with("</svg>"));
    }
}
