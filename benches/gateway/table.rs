//! A table of figures in Markdown, with the aims below it.

use std::fmt::Write as _;

use support::stats::Spread;

/// What one figure of a row is.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub decimals: usize,
    /// Also print it as a multiple of nginx's in the same round.
    pub has_ratio: bool,
}

pub const fn plain(title: &'static str, decimals: usize) -> Column {
    Column { title, decimals, has_ratio: false }
}

pub const fn with_ratio(title: &'static str, decimals: usize) -> Column {
    Column { title, decimals, has_ratio: true }
}

/// What the gateway's row should not exceed.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// A multiple of nginx's figure in the same round.
    TimesNginx { column: usize, most: f64 },
    /// The figure itself.
    Figure { column: usize, most: f64 },
}

/// One system: a row of figures per round; a figure that cannot be had is NaN.
pub struct Row {
    pub name: &'static str,
    pub rounds: Vec<Vec<f64>>,
}

pub const NGINX: &str = "nginx";
pub const GATEWAY: &str = "deepersensor";

impl Row {
    fn spread(&self, column: usize) -> Spread {
        Spread::of(self.rounds.iter().map(|figures| figures[column]))
    }

    /// The ratio to `base` inside each round.
    fn ratio(&self, base: &Self, column: usize) -> Spread {
        let pairs = self.rounds.iter().zip(&base.rounds);
        Spread::of(pairs.map(|(ours, theirs)| ours[column] / theirs[column]))
    }
}

/// Draws the table.
pub fn draw(title: &str, columns: &[Column], rows: &[Row], aims: &[Aim]) -> String {
    let mut text = format!("### {title}\n\n| |");
    for column in columns {
        let _ = write!(text, " {} |", column.title);
        if column.has_ratio {
            text.push_str(" × nginx (range) |");
        }
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(columns.iter().map(|column| 1 + usize::from(column.has_ratio)).sum()));
    text.push('\n');
    let nginx = rows.iter().find(|row| row.name == NGINX);
    for row in rows {
        let _ = write!(text, "| {} |", row.name);
        for (at, column) in columns.iter().enumerate() {
            draw_cell(&mut text, row.spread(at), column.decimals);
            if column.has_ratio {
                draw_ratio(&mut text, nginx.map(|nginx| row.ratio(nginx, at)));
            }
        }
        text.push('\n');
    }
    let gateway = rows.iter().find(|row| row.name == GATEWAY);
    for aim in aims {
        if let Some(line) = gateway.and_then(|row| judge(*aim, columns, row, nginx)) {
            let _ = write!(text, "\n{line}");
        }
    }
    text.push('\n');
    text
}

fn draw_cell(text: &mut String, figure: Spread, decimals: usize) {
    // Writing into a string cannot fail.
    let _ = match figure.median.is_nan() {
        true => write!(text, " – |"),
        false => write!(text, " {:.decimals$} |", figure.median),
    };
}

fn draw_ratio(text: &mut String, ratio: Option<Spread>) {
    let _ = match ratio.filter(|ratio| !ratio.median.is_nan()) {
        Some(Spread { median, least, most }) => write!(text, " {median:.2} ({least:.2}–{most:.2}) |"),
        None => write!(text, " – |"),
    };
}

fn judge(aim: Aim, columns: &[Column], gateway: &Row, nginx: Option<&Row>) -> Option<String> {
    let (column, most, is, unit) = match aim {
        Aim::TimesNginx { column, most } => (column, most, gateway.ratio(nginx?, column).median, " × nginx"),
        Aim::Figure { column, most } => (column, most, gateway.spread(column).median, ""),
    };
    let verdict = if is <= most { "met" } else { "missed" };
    Some(format!("Aim: {} at most {most}{unit}; measured {is:.2}: {verdict}.", columns[column].title))
}
