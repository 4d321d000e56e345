//! `admin usage`: what turns took, added up from the ledger of the store, also beside a running service.

use actors::{admin::with_store, clock::Clock, db::DbHandle, system::SystemConfig};
use anyhow::bail;
use chrono::NaiveDate;
use clap::Args;
use domain::usage::{Days, Dimensions, GroupKey, UsageGroup, UsageQuery, UsageReport, WHOLE_GROUPS_MAX};

use super::terminal::{Terminal, harmless};
use crate::usage;

/// What people can do without; CSV has all.
const LEFT_OUT: [&str; 9] = [
    "interrupted",
    "cancelled",
    "failed",
    "streaming",
    "reported",
    "counted",
    "estimated",
    "avg_queued_ms",
    "avg_load_ms",
];

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// One or several of day, user, model, key and status, with commas between them
    #[arg(long, default_value = "day", value_parser = dimensions)]
    by: Dimensions,
    /// The first UTC day; without it, 30 days end with the last
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<NaiveDate>,
    /// The last UTC day, all of it; without it, today
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<NaiveDate>,
    /// Print everything that is known of each group, as CSV
    #[arg(long)]
    csv: bool,
}

pub(crate) async fn run(
    args: UsageArgs,
    system: SystemConfig,
    clock: Clock,
    terminal: Terminal,
) -> anyhow::Result<()> {
    let days = Days::asked(args.from, args.to, clock.now().date_naive())?;
    let query = UsageQuery { days, by: args.by, user: None, model: None, key: None };
    let add_up = async |db: &DbHandle| anyhow::Ok(db.usage(query, None, WHOLE_GROUPS_MAX).await?);
    let report = with_store(system, clock, add_up).await?;
    if report.next.is_some() {
        bail!("there are more than {WHOLE_GROUPS_MAX} lines: ask for fewer days, or tell less apart");
    }
    if args.csv {
        terminal.write(usage::table(args.by, report).into_csv())?;
        return Ok(());
    }
    for line in readable(args.by, report) {
        terminal.line(harmless(&line))?;
    }
    Ok(())
}

/// Columns with their names above them, and the sum over all as the last line.
fn readable(by: Dimensions, mut report: UsageReport) -> Vec<String> {
    let total = UsageGroup { of: GroupKey::default(), email: None, key_name: None, tally: report.total };
    report.groups.push(total);
    let mut lines = usage::table(by, report).without(&LEFT_OUT);
    if let Some(cell) = lines.last_mut().and_then(|total| total.first_mut()) {
        *cell = "total".to_owned();
    }
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..).map_while(width).collect();
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect()
}

fn day(text: &str) -> Result<NaiveDate, &'static str> {
    Days::parse_day(text).ok_or("write a UTC day such as 2026-11-30")
}

fn dimensions(text: &str) -> Result<Dimensions, &'static str> {
    Dimensions::parse(text)
        .ok_or("write one or several of day, user, model, key and status, with commas between them")
}

#[cfg(test)]
mod tests {
    use domain::usage::{Outcomes, Tally};

    use super::*;

    #[test]
    fn people_read_aligned_columns_and_the_sum_over_all() {
        let tally = |complete| Tally {
            outcomes: Outcomes { complete, failed: 1, ..Outcomes::default() },
            completion_tokens: 12_345,
            ..Tally::default()
        };
        let of = GroupKey { model: Some("tiny:latest".to_owned()), ..GroupKey::default() };
        let groups = vec![UsageGroup { of, email: None, key_name: None, tally: tally(7) }];
        let report = UsageReport { groups, next: None, total: tally(7) };
        let expected = [
            "model        requests  complete  prompt_tokens  completion_tokens  total_tokens  avg_first_token_ms  avg_total_ms",
            "tiny:latest  8         7         0              12345              12345",
            "total        8         7         0              12345              12345",
        ];
        assert_eq!(readable(Dimensions::parse("model").unwrap(), report), expected);
    }
}
