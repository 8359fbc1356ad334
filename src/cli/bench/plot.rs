//! A line for each way of repeating, into an SVG file.

use super::case::BenchError;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use std::path::Path;

/// What is drawn.
#[derive(Debug)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Below the horizontal axis.
    pub x: String,
    /// Beside the vertical axis.
    pub y: String,
    /// Whether horizontal distances are ratios: all values must be above 0 then.
    pub ratios: bool,
    /// Whether values between whole numbers mean nothing.
    pub whole: bool,
    /// Each a name and its points, in order of x.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws it into a new file.
pub fn draw(plot: &Plot, path: &Path) -> Result<(), BenchError> {
    let failed = |cause: String| BenchError::Plot { path: path.to_owned(), cause };
    let points = || plot.lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (low, high) =
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (x, _)| (low.min(x), high.max(x)));
    if low > high {
        return Err(failed("there is no point".into()));
    }
    // One point alone, or a line along the bottom, still needs an area to stand in.
    let top = points().fold(0.0_f64, |top, (_, y)| top.max(y)) * HEADROOM;
    let vertical = 0.0..if top > 0.0 { top } else { 1.0 };
    if plot.ratios && low > 0.0 {
        let across = low / RATIO_MARGIN..high * RATIO_MARGIN;
        in_area(plot, path, across.log_scale().base(2.0), vertical).map_err(failed)
    } else {
        let margin = ((high - low) * MARGIN).max(MARGIN);
        in_area(plot, path, low - margin..high + margin, vertical).map_err(failed)
    }
}

fn in_area<X>(plot: &Plot, path: &Path, across: X, vertical: std::ops::Range<f64>) -> Result<(), String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let text = |error: DrawingAreaErrorKind<_>| error.to_string();
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&plot.title, (FONT, TITLE_SIZE))
        .margin(16)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(across, vertical)
        .map_err(text)?;
    chart
        .configure_mesh()
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .label_style((FONT, LABEL_SIZE))
        .axis_desc_style((FONT, TEXT_SIZE))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_label_formatter(&|x| if plot.whole && x.fract() != 0.0 { String::new() } else { number(*x) })
        .y_label_formatter(&|y| number(*y))
        .draw()
        .map_err(text)?;
    for ((name, points), colour) in plot.lines.iter().zip(COLOURS.iter().cycle()) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        let drawn = chart.draw_series(line).map_err(text)?;
        drawn.label(name).legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled()))).map_err(text)?;
    }
    chart
        .configure_series_labels()
        .position(if falling(plot) { SeriesLabelPosition::UpperRight } else { SeriesLabelPosition::LowerRight })
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, TEXT_SIZE))
        .draw()
        .map_err(text)?;
    area.present().map_err(text)
}

/// Whether there is more room above the lines' right ends than below.
fn falling(plot: &Plot) -> bool {
    let ends = plot.lines.iter().filter_map(|(_, points)| Some((points.first()?.1, points.last()?.1)));
    ends.map(|(first, last)| last - first).sum::<f64>() < 0.0
}

/// Short: no more digits than a reader of a plot wants.
fn number(value: f64) -> String {
    let rounded = format!("{:.*}", if value.abs() >= 10.0 { 0 } else { 2 }, value);
    if rounded.contains('.') { rounded.trim_end_matches('0').trim_end_matches('.').to_owned() } else { rounded }
}

/// Told apart by eyes that see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
const FONT: &str = "sans-serif";
const SIZE: (u32, u32) = (860, 520);
const TITLE_SIZE: u32 = 20;
const TEXT_SIZE: u32 = 15;
const LABEL_SIZE: u32 = 13;
const HEADROOM: f64 = 1.12;
const MARGIN: f64 = 0.03;
const RATIO_MARGIN: f64 = 1.15;

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(ratios: bool, points: &[(f64, f64)]) -> Plot {
        let lines = vec![("go-back-n".to_owned(), points.to_vec()), ("selective-repeat".to_owned(), points.to_vec())];
        Plot {
            title: "a <title>".into(),
            x: "window, segments".into(),
            y: "Gbit/s".into(),
            ratios,
            whole: false,
            lines,
        }
    }

    #[test]
    fn a_plot_names_its_axes_and_lines_and_marks_every_point() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        for ratios in [true, false] {
            draw(&plot(ratios, &[(1.0, 0.3), (16.0, 2.5), (256.0, 8.9)]), &path).unwrap();
            let svg = std::fs::read_to_string(&path).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for words in ["a &lt;title&gt;", "window, segments", "Gbit/s", "go-back-n", "selective-repeat"] {
                assert!(svg.contains(words), "{words}");
            }
            assert_eq!(svg.matches("<circle").count(), 6);
        }
    }

    #[test]
    fn awkward_points_are_drawn_and_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        for points in [&[(0.0, 0.0)][..], &[(0.0, 1.0), (5.0, 0.0)], &[(7.0, 7.0)]] {
            draw(&plot(true, points), &path).unwrap();
        }
        assert!(draw(&plot(false, &[]), &path).unwrap_err().to_string().contains("no point"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.1, 2.5, 16.0, 4096.0].map(number), ["0", "0.1", "2.5", "16", "4096"]);
    }
}
