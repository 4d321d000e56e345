use chrono::{Days as Count, NaiveDate, TimeDelta};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn day(text: &str) -> NaiveDate {
    Days::parse_day(text).unwrap()
}

#[test]
fn a_range_ends_today_and_has_thirty_days_unless_somebody_says_otherwise() {
    let today = day("2026-03-01");
    let asked = |from: Option<&str>, to: Option<&str>| {
        Days::asked(from.map(day), to.map(day), today).map(|days| (days.first(), days.last()))
    };
    assert_eq!(asked(None, None), Ok((day("2026-01-31"), today)));
    assert_eq!(asked(None, Some("2024-03-01")), Ok((day("2024-02-01"), day("2024-03-01"))), "a leap year's");
    assert_eq!(asked(Some("2026-02-27"), None), Ok((day("2026-02-27"), today)));
    assert_eq!(asked(Some("2026-03-01"), Some("2026-03-01")), Ok((today, today)), "one day is a range");
    assert_eq!(asked(Some("2026-03-02"), Some("2026-03-01")), Err(BadDays::Reversed));
    assert_eq!(asked(Some("2026-03-02"), None), Err(BadDays::Reversed), "nothing has happened yet");
    assert_eq!(asked(Some("2024-01-01"), Some("2024-12-31")), Ok((day("2024-01-01"), day("2024-12-31"))));
    assert_eq!(asked(Some("2024-01-01"), Some("2025-01-01")), Err(BadDays::TooMany));
}

#[test]
fn a_day_begins_at_midnight_and_has_24_hours_also_where_clocks_are_changed() {
    for text in ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-12-31", "9998-12-31"] {
        let one = Days::asked(Some(day(text)), Some(day(text)), day(text)).unwrap();
        assert_eq!(one.until() - one.since(), TimeDelta::hours(24), "{text}");
        assert_eq!(one.since().to_rfc3339(), format!("{text}T00:00:00+00:00"));
    }
}

#[test]
fn a_day_has_one_name() {
    for text in
        ["2026-1-01", "2026-02-30", "+2026-01-01", "2026-01-01 ", "1969-12-31", "9999-01-01", "today", ""]
    {
        assert_eq!(Days::parse_day(text), None, "{text}");
    }
}

#[test]
fn what_is_grouped_by_is_read_from_a_list() {
    use Dimension::{Day, Key, Model};
    let parsed = |text| Dimensions::parse(text).map(|by| by.iter().collect::<Vec<_>>());
    assert_eq!(parsed("key,day,model,key"), Some(vec![Day, Model, Key]));
    for text in ["", "day,", "days", "day model", "Day"] {
        assert_eq!(parsed(text), None, "{text}");
    }
}

#[test]
fn a_mean_is_rounded_and_a_half_counts_as_one_more() {
    let mean = |sum_ms, count| Mean { sum_ms, count }.milliseconds();
    assert_eq!(mean(0, 0), None);
    assert_eq!(mean(0, 3), Some(0));
    assert_eq!((mean(1, 3), mean(1, 2), mean(2, 3), mean(5, 2)), (Some(0), Some(1), Some(1), Some(3)));
    assert_eq!(mean(u64::MAX, 1), Some(u64::MAX));
}

#[test]
fn the_mean_of_a_sum_is_no_mean_of_means() {
    let tally = |sum_ms, count| Tally { total: Mean { sum_ms, count }, ..Tally::default() };
    let all: Tally = [tally(10, 1), tally(900, 9)].into_iter().sum();
    assert_eq!(all.total.milliseconds(), Some(91));
}

proptest! {
    #[test]
    fn a_place_in_a_report_survives_being_written(
        days in proptest::option::of(0_u64..2_900_000),
        [user, key] in proptest::array::uniform2(proptest::option::of(any::<u128>())),
        model in proptest::option::of("[^\0]{0,40}"),
        status in proptest::option::of(0..5_usize),
    ) {
        const STATUSES: [TurnStatus; 5] = [
            TurnStatus::Streaming,
            TurnStatus::Complete,
            TurnStatus::Interrupted,
            TurnStatus::Cancelled,
            TurnStatus::Failed,
        ];
        let place = GroupKey {
            day: days.map(|days| day("1970-01-01") + Count::new(days)),
            user: user.map(|user| Uuid::from_u128(user).into()),
            model,
            key: key.map(|key| Uuid::from_u128(key).into()),
            status: status.map(|status| STATUSES[status]),
        };
        let text = place.to_string();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)), "{}", text);
        prop_assert_eq!(text.parse(), Ok(place));
    }

    #[test]
    fn what_is_no_place_is_refused_without_harm(text in "\\PC*") {
        if let Ok(place) = text.parse::<GroupKey>() {
            prop_assert!(place.to_string().parse::<GroupKey>().is_ok());
        }
    }
}

#[test]
fn a_place_of_another_report_does_not_fit() {
    let by = |text| Dimensions::parse(text).unwrap();
    let place = GroupKey { day: Some(day("2026-11-30")), ..GroupKey::default() };
    assert!(place.fits(by("day")) && place.fits(by("day,key")), "a session's turns have no key");
    assert!(!place.fits(by("model")) && !place.fits(by("day,model")) && !place.fits(Dimensions::default()));
    let of_a_key = GroupKey { key: Some(Uuid::from_u128(1).into()), ..place };
    assert!(of_a_key.fits(by("day,key")) && !of_a_key.fits(by("day")));
    for text in [
        "",
        "-",
        "-.-.-.-",
        "-.-.-.-.-.-",
        "-.-.-.-.0",
        "-.-.-.-.00",
        "-.-.-.-.zz",
        "-.-.-.done.-",
        "x.-.-.-.-",
    ] {
        assert_eq!(text.parse::<GroupKey>(), Err(NotACursor), "{text}");
    }
}
