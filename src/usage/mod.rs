//! Usage as it leaves the service: the lines of a report, as JSON and as CSV, for the routes and for the command line.

pub(crate) mod csv;
pub(crate) mod view;

use csv::Table;
use domain::usage::{Days, Dimension, Dimensions, UsageGroup, UsageReport};

use self::view::TallyView;

/// A report as a table: a column for each thing it groups by (two where that has a name), then what was added up, named as
/// in JSON. The sum over all lines is not among them, so that a column can be added up.
pub(crate) fn table(by: Dimensions, report: UsageReport) -> Table {
    let sums = TallyView::from(report.total).cells().map(|(name, _)| name);
    let mut table = Table::new(by.iter().flat_map(titles).copied().chain(sums));
    for UsageGroup { of, email, key_name, tally } in report.groups {
        let day = of.day.map(|day| day.to_string());
        let user = of.user.map(|user| user.to_string());
        let key = of.key.map(|key| key.to_string());
        let status = of.status.map(|status| status.as_str().to_owned());
        let told = by.iter().flat_map(|dimension| match dimension {
            Dimension::Day => vec![day.clone()],
            Dimension::User => vec![user.clone(), email.clone()],
            Dimension::Model => vec![of.model.clone()],
            Dimension::Key => vec![key.clone(), key_name.clone()],
            Dimension::Status => vec![status.clone()],
        });
        let sums = TallyView::from(tally).cells().map(|(_, sum)| sum.map(|sum| sum.to_string()));
        table.line(told.chain(sums).map(Option::unwrap_or_default));
    }
    table
}

/// The columns of one dimension.
const fn titles(dimension: Dimension) -> &'static [&'static str] {
    match dimension {
        Dimension::Day => &["day"],
        Dimension::User => &["user_id", "user_email"],
        Dimension::Model => &["model"],
        Dimension::Key => &["key_id", "key_name"],
        Dimension::Status => &["status"],
    }
}

/// What a file with a report of these days is called.
pub(crate) fn file_name(days: Days) -> String {
    format!("usage-{}-{}.csv", days.first(), days.last())
}

#[cfg(test)]
mod tests {
    use domain::usage::{GroupKey, Mean, Outcomes, Tally};
    use serde_json::{Value, json};

    use super::{view::GroupView, *};

    fn group() -> UsageGroup {
        let id = "01900000-0000-7000-8000-000000000000";
        UsageGroup {
            of: GroupKey {
                day: Days::parse_day("2026-11-30"),
                user: id.parse().ok(),
                model: Some("m:1b".to_owned()),
                key: id.parse().ok(),
                status: None,
            },
            email: Some("=ada@example.org".to_owned()),
            key_name: Some("lap, top".to_owned()),
            tally: Tally {
                outcomes: Outcomes { complete: 2, ..Outcomes::default() },
                prompt_tokens: 3,
                completion_tokens: 4,
                total: Mean { sum_ms: 5, count: 2 },
                ..Tally::default()
            },
        }
    }

    #[test]
    fn a_line_says_in_csv_what_it_says_in_json() {
        let by = Dimensions::parse("day,user,model,key").unwrap();
        let report = UsageReport { groups: vec![group()], next: None, total: Tally::default() };
        let text = table(by, report).into_csv();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        let [names, cells] = lines[..] else { panic!("{text}") };
        let id = "01900000-0000-7000-8000-000000000000";
        assert_eq!(
            cells,
            format!("2026-11-30,{id},'=ada@example.org,m:1b,{id},\"lap, top\",2,2,0,0,0,0,3,4,7,0,0,0,,,,3")
        );

        let Value::Object(told) = json!(GroupView::of(group(), by)) else { panic!("no object") };
        let sums: Vec<_> = names.split(',').skip(6).collect();
        assert_eq!(told.keys().skip(4).collect::<Vec<_>>(), sums, "the same names");
        let written: Vec<_> = told
            .values()
            .skip(4)
            .map(|sum| if sum.is_null() { "".into() } else { sum.to_string() })
            .collect();
        assert_eq!(
            written,
            cells.rsplitn(17, ',').collect::<Vec<_>>().into_iter().rev().skip(1).collect::<Vec<_>>()
        );
        assert_eq!(told["key"], json!({"id": id, "name": "lap, top"}));
    }

    #[test]
    fn what_is_not_grouped_by_is_not_named_and_no_key_is_null() {
        let of = GroupKey { key: None, ..GroupKey::default() };
        let group = UsageGroup { of, email: None, key_name: None, tally: Tally::default() };
        let told = |by| json!(GroupView::of(group.clone(), by));
        assert_eq!(told(Dimensions::default()).as_object().unwrap().keys().next().unwrap(), "requests");
        assert_eq!(told(Dimensions::parse("key").unwrap())["key"], Value::Null);
        assert!(told(Dimensions::parse("key").unwrap()).as_object().unwrap().contains_key("key"));
    }
}
