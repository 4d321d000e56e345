//! The ledger as it is read: sums over turns, and the turns themselves.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::{
    account::User,
    api_key::ApiKey,
    audit::AuditEvent,
    id::{ApiKeyId, ConversationId, UserId},
    reply::{FailureCode, UsageSource},
    turn::{BeginTurn, Settlement, TurnStatus},
    usage::{
        Days, Dimension, Dimensions, GroupKey, LedgerEntry, LedgerFilter, Mean, Outcomes, Sources, Tally,
        UsageQuery, UsageReport,
    },
};

use super::{
    ground::{Ground, Running},
    samples::*,
};

const PAGE: u32 = 1_000;

fn day(text: &str) -> NaiveDate {
    Days::parse_day(text).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn by(text: &str) -> Dimensions {
    Dimensions::parse(text).unwrap()
}

/// Of one account, from one day to another.
fn query(user: &User, from: &str, to: &str, by: Dimensions) -> UsageQuery {
    let days = Days::asked(Some(day(from)), Some(day(to)), day(to)).unwrap();
    UsageQuery { days, by, user: Some(user.id), model: None, key: None }
}

/// What November comes to, by days.
async fn november(room: &Running, user: &User) -> UsageReport {
    let november = query(user, "2026-11-01", "2026-11-30", by("day"));
    room.db.usage(november, None, PAGE).await.unwrap()
}

/// A turn of which only the ledger's row is kept, as it ended.
fn ended(user: &User, created_at: DateTime<Utc>) -> Settlement {
    let mut begin = begin(user.id);
    begin.exchange = None;
    begin.created_at = created_at;
    Settlement { ended_at: created_at + TimeDelta::seconds(1), ..settlement(&begin, "") }
}

async fn add(room: &Running, turn: Settlement) {
    settle(&room.db, turn).await.unwrap();
}

/// Requests on each day.
fn requests(report: &UsageReport) -> Vec<(String, u64)> {
    let shown =
        |group: &domain::usage::UsageGroup| (group.of.day.unwrap().to_string(), group.tally.requests());
    report.groups.iter().map(shown).collect()
}

/// What a settled turn adds to its group, said once more.
fn tally_of(turn: &Settlement) -> Tally {
    let mean = |duration: Duration| Mean { sum_ms: duration.as_millis() as u64, count: 1 };
    let mut tally = Tally {
        prompt_tokens: turn.usage.prompt_tokens.into(),
        completion_tokens: turn.usage.completion_tokens.into(),
        queued: mean(turn.timings.queued),
        load: mean(turn.timings.load),
        first_token: turn.timings.first_token.map(mean).unwrap_or_default(),
        total: mean(turn.timings.total),
        ..Tally::default()
    };
    match turn.status {
        TurnStatus::Complete => tally.outcomes.complete = 1,
        TurnStatus::Interrupted => tally.outcomes.interrupted = 1,
        TurnStatus::Cancelled => tally.outcomes.cancelled = 1,
        TurnStatus::Failed => tally.outcomes.failed = 1,
        TurnStatus::Streaming => tally.outcomes.streaming = 1,
    }
    match turn.usage.source {
        UsageSource::Reported => tally.sources.reported = 1,
        UsageSource::Counted => tally.sources.counted = 1,
        UsageSource::Estimated => tally.sources.estimated = 1,
    }
    tally
}

fn group_of(turn: &Settlement, by: Dimensions) -> GroupKey {
    let has = |dimension| by.contains(dimension);
    GroupKey {
        day: has(Dimension::Day).then(|| turn.created_at.date_naive()),
        user: has(Dimension::User).then_some(turn.user),
        model: has(Dimension::Model).then(|| turn.model.clone()),
        key: turn.key.filter(|_| has(Dimension::Key)),
        status: has(Dimension::Status).then_some(turn.status),
    }
}

/// Turns of two accounts, some by keys, that fall into many groups; nothing about them is drawn.
async fn many_turns(room: &Running) -> (User, Vec<Settlement>) {
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let keys = [some_key(&room.db, ada.id).await.0.id, some_key(&room.db, ada.id).await.0.id];
    let statuses = [TurnStatus::Complete, TurnStatus::Cancelled, TurnStatus::Failed, TurnStatus::Interrupted];
    let sources = [UsageSource::Reported, UsageSource::Counted, UsageSource::Estimated];
    // In bytes capital letters come first, in the order of most languages they do not.
    let models = ["b:latest", "B:latest", "a/é:1b"];
    let mut turns = Vec::new();
    for n in 0..150_u32 {
        let user = if n % 5 == 0 { &eve } else { &ada };
        let mut turn =
            ended(user, at("2026-11-02T03:04:05.678901Z") + TimeDelta::hours((n * 7 % 200).into()));
        turn.model = models[(n / 3 % 3) as usize].into();
        turn.status = statuses[(n * n % 4) as usize];
        turn.key = if user.id == ada.id { keys.get((n % 4) as usize).copied() } else { None };
        turn.usage.prompt_tokens = n * 13 % 101;
        turn.usage.completion_tokens = if n == 77 { u32::MAX } else { n * 31 % 211 };
        turn.usage.source = sources[(n / 2 % 3) as usize];
        turn.timings.queued = Duration::from_millis((n * 3).into());
        turn.timings.first_token = (n % 3 != 0).then(|| Duration::from_millis((n * 17).into()));
        add(room, turn.clone()).await;
        turns.push(turn);
    }
    (ada, turns)
}

pub(super) async fn a_report_adds_up_what_was_settled_whatever_it_groups_by(ground: Ground) {
    let room = ground.room().await;
    let (ada, turns) = many_turns(&room).await;
    let mut groups = 0;
    for set in 0..32_u8 {
        let by: Dimensions = Dimension::ALL
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| set & 1 << bit != 0)
            .map(|(_, d)| d)
            .collect();
        for user in [Some(ada.id), None] {
            let asked = UsageQuery { user, ..query(&ada, "2026-11-01", "2026-11-30", by) };
            let told = room.db.usage(asked, None, PAGE).await.unwrap();
            let mine = turns.iter().filter(|turn| user.is_none_or(|user| turn.user == user));
            // By bytes, what is not said first: as the fields stand in the key.
            let order = |of: &GroupKey| {
                (of.day, of.user, of.model.clone(), of.key, of.status.map_or("", TurnStatus::as_str))
            };
            let mut expected = BTreeMap::new();
            for turn in mine.clone() {
                let of = group_of(turn, by);
                let sum: &mut (GroupKey, Tally) =
                    expected.entry(order(&of)).or_insert((of, Tally::default()));
                sum.1 = sum.1 + tally_of(turn);
            }
            let expected: Vec<_> = expected.into_values().collect();
            let found: Vec<_> = told.groups.into_iter().map(|group| (group.of, group.tally)).collect();
            assert_eq!(found, expected, "{by:?} of {user:?}");
            assert_eq!(told.total, mine.map(tally_of).sum(), "{by:?} of {user:?}");
            groups += found.len();
        }
    }
    assert!(groups > 1_000, "{groups}");
}

pub(super) async fn pages_of_a_report_are_the_report(ground: Ground) {
    let room = ground.room().await;
    let (ada, _) = many_turns(&room).await;
    for by in ["day,user,model,key,status", "key", "model,status"].map(by) {
        let all = UsageQuery { user: None, ..query(&ada, "2026-11-01", "2026-11-30", by) };
        let whole = room.db.usage(all.clone(), None, PAGE).await.unwrap();
        assert_eq!(whole.next, None);
        for limit in [1, 2, 7] {
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let page = room.db.usage(all.clone(), after, limit).await.unwrap();
                assert!(page.groups.len() <= limit as usize);
                assert_eq!(page.total, whole.total, "each page has the sum over all");
                read.extend(page.groups);
                let Some(next) = page.next else { break };
                // As it travels.
                after = Some(next.to_string().parse().unwrap());
            }
            assert_eq!(read, whole.groups, "{by:?} by {limit}");
        }
    }
}

pub(super) async fn a_turn_counts_whole_on_the_utc_day_on_which_it_began(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    for began in [
        "2026-10-31T23:59:59.999999Z",
        "2026-11-01T00:00:00Z",
        // Where clocks were changed a day would have 25 hours.
        "2026-11-01T23:59:59.999999Z",
        "2026-11-02T00:30:00+02:00",
        "2026-11-30T23:59:59.999999Z",
        "2026-12-01T00:00:00Z",
    ] {
        add(&room, ended(&ada, at(began))).await;
    }
    let mut overnight = ended(&ada, at("2026-11-15T23:59:00Z"));
    overnight.ended_at = at("2026-11-16T00:01:00Z");
    add(&room, overnight).await;
    let told = november(&room, &ada).await;
    assert_eq!(
        requests(&told),
        [("2026-11-01", 3), ("2026-11-15", 1), ("2026-11-30", 1)].map(|(day, count)| (day.to_owned(), count))
    );
    assert_eq!(told.total.requests(), 5);
    let of_one = query(&ada, "2026-11-15", "2026-11-15", by("day"));
    assert_eq!(room.db.usage(of_one, None, PAGE).await.unwrap().total.requests(), 1);
}

pub(super) async fn a_range_without_turns_is_empty(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    add(&room, ended(&ada, at("2026-10-31T12:00:00Z"))).await;
    for by in [by("day"), by("key"), Dimensions::default()] {
        let asked = query(&ada, "2026-11-01", "2026-11-30", by);
        let nothing = UsageReport { groups: Vec::new(), next: None, total: Tally::default() };
        assert_eq!(room.db.usage(asked, None, PAGE).await, Ok(nothing));
    }
}

pub(super) async fn what_is_not_settled_is_a_request_and_nothing_else(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    let started = |hour: i64| BeginTurn {
        created_at: at("2026-11-05T00:00:00Z") + TimeDelta::hours(hour),
        lease_until: at("2026-11-05T00:00:30Z") + TimeDelta::hours(hour),
        ..begin(ada.id)
    };
    let (swept, running) = (started(1), started(2));
    for begin in [&swept, &running] {
        room.db.begin_turn(begin.clone()).await.unwrap();
    }
    assert_eq!(room.db.sweep_dead_turns(running.owner, at("2026-11-05T01:30:00Z")).await, Ok(1));
    let told = november(&room, &ada).await;
    let outcomes = Outcomes { interrupted: 1, streaming: 1, ..Outcomes::default() };
    assert_eq!(told.total, Tally { outcomes, ..Tally::default() });
    assert_eq!(told.total.total.milliseconds(), None);

    let rows = entries(&room, ada.id, LedgerFilter::default()).await;
    let shown: Vec<_> =
        rows.iter().map(|row| (row.turn.turn, row.turn.status, row.turn.ended_at.is_some())).collect();
    assert_eq!(
        shown,
        [(running.turn, TurnStatus::Streaming, false), (swept.turn, TurnStatus::Interrupted, true)]
    );
    assert!(rows.iter().all(|row| row.turn.usage.is_none() && row.turn.timings.is_none()));

    // Settled, it is no other turn.
    add(&room, settlement(&running, "done")).await;
    let told = november(&room, &ada).await;
    assert_eq!((told.total.requests(), told.total.outcomes.complete, told.total.total_tokens()), (2, 1, 18));
    assert_eq!(told.total.sources, Sources { reported: 1, ..Sources::default() });
}

pub(super) async fn means_are_over_the_turns_that_have_the_duration(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    for (total, first_token) in [(1, Some(10)), (2, None), (4, Some(15))] {
        let mut turn = ended(&ada, at("2026-11-05T12:00:00Z"));
        turn.timings.total = Duration::from_millis(total);
        turn.timings.first_token = first_token.map(Duration::from_millis);
        add(&room, turn).await;
    }
    let told = november(&room, &ada).await.total;
    let shown = [told.queued, told.load, told.first_token, told.total].map(Mean::milliseconds);
    assert_eq!(shown, [Some(5), Some(0), Some(13), Some(2)]);
}

async fn turn_by(room: &Running, user: &User, key: Option<ApiKeyId>) {
    add(room, Settlement { key, ..ended(user, at("2026-11-05T12:00:00Z")) }).await;
}

async fn names(room: &Running, query: UsageQuery) -> Vec<(Option<ApiKeyId>, Option<String>, Option<String>)> {
    let told = room.db.usage(query, None, PAGE).await.unwrap();
    told.groups.into_iter().map(|group| (group.of.key, group.key_name, group.email)).collect()
}

pub(super) async fn a_key_has_its_name_until_its_account_is_deleted(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    let (ApiKey { id: key, .. }, _) = some_key(&room.db, ada.id).await;
    turn_by(&room, &ada, Some(key)).await;
    turn_by(&room, &ada, None).await;
    let by_key = query(&ada, "2026-11-01", "2026-11-30", by("key"));
    let named = [(None, None, None), (Some(key), Some("laptop".to_owned()), None)];
    assert_eq!(names(&room, by_key.clone()).await, named, "those of a session come first");
    let entry = |event| audit(event, ada.id);
    room.db.revoke_api_key(Some(ada.id), key, noon(), entry(AuditEvent::AuthnTokenRevoked)).await.unwrap();
    assert_eq!(names(&room, by_key.clone()).await, named, "also when it is revoked");
    let rows = entries(&room, ada.id, LedgerFilter::default()).await;
    assert!(rows.iter().any(|row| (row.key, row.key_name.as_deref()) == (Some(key), Some("laptop"))));

    let everybody = UsageQuery { user: None, ..query(&ada, "2026-11-01", "2026-11-30", by("user,key")) };
    let email = Some(ada.email.as_str().to_owned());
    assert!(names(&room, everybody.clone()).await.iter().all(|(_, _, named)| *named == email));
    room.db.delete_user(ada.id, noon(), entry(AuditEvent::UserDeleted)).await.unwrap();
    let nameless = [(None, None, None), (Some(key), None, None)];
    assert_eq!(names(&room, everybody).await, nameless, "its turns still count");
}

pub(super) async fn a_report_of_one_account_model_or_key_has_nothing_else(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let (adas, eves) = (some_key(&room.db, ada.id).await.0.id, some_key(&room.db, eve.id).await.0.id);
    for key in [Some(adas), None] {
        turn_by(&room, &ada, key).await;
    }
    for _ in 0..3 {
        turn_by(&room, &eve, Some(eves)).await;
    }
    let mut other = ended(&ada, at("2026-11-06T12:00:00Z"));
    other.model = "other:7b".into();
    add(&room, other).await;

    let all = query(&ada, "2026-11-01", "2026-11-30", by("day"));
    let everybodys = UsageQuery { user: None, ..all.clone() };
    let other = || Some("other:7b".to_owned());
    for (asked, count) in [
        (all.clone(), 3),
        (UsageQuery { key: Some(adas), ..all.clone() }, 1),
        (UsageQuery { key: Some(eves), ..all.clone() }, 0),
        (UsageQuery { model: other(), ..all.clone() }, 1),
        (UsageQuery { model: Some("none:1b".into()), ..all }, 0),
        (everybodys.clone(), 6),
        (UsageQuery { key: Some(eves), ..everybodys.clone() }, 3),
        (UsageQuery { model: other(), ..everybodys }, 1),
    ] {
        let told = room.db.usage(asked.clone(), None, PAGE).await.unwrap();
        assert_eq!(told.total.requests(), count, "{asked:?}");
        // Whatever the cursor claims to be.
        let first = Some(GroupKey::default());
        let page = room.db.usage(asked.clone(), first, 1).await.unwrap();
        assert_eq!(page.total, told.total, "{asked:?}");
    }
}

/// All of the owner's rows that the filter lets through, read two at a time.
async fn entries(room: &Running, owner: UserId, filter: LedgerFilter) -> Vec<LedgerEntry> {
    let (mut read, mut before) = (Vec::new(), None);
    loop {
        let page = room.db.ledger(owner, filter.clone(), before, 2).await.unwrap();
        assert!(page.items.len() <= 2);
        read.extend(page.items);
        let Some(next) = page.next else { return read };
        before = Some(next.into());
    }
}

pub(super) async fn the_ledger_pages_from_new_to_old_as_its_owner_asks(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let mut turns = Vec::new();
    for n in 0..9_i64 {
        // Three at a time began at once.
        let mut turn = ended(&ada, at("2026-11-05T12:00:00Z") + TimeDelta::days(n / 3));
        turn.model = if n % 2 == 0 { "even:1b" } else { "odd:1b" }.into();
        if n % 4 == 0 {
            turn.status = TurnStatus::Failed;
            turn.failure = Some(FailureCode::UpstreamError);
            turn.finish_reason = None;
        }
        add(&room, turn.clone()).await;
        add(&room, ended(&eve, turn.created_at)).await;
        turns.push(turn);
    }
    turns.sort_by_key(|turn| std::cmp::Reverse((turn.created_at, turn.turn)));
    let expected = |wanted: &dyn Fn(&Settlement) -> bool| -> Vec<_> {
        turns.iter().filter(|turn| wanted(turn)).map(|turn| turn.turn).collect()
    };
    let ids = async |filter| -> Vec<_> {
        entries(&room, ada.id, filter).await.into_iter().map(|entry| entry.turn.turn).collect()
    };
    let none = LedgerFilter::default;
    assert_eq!(ids(none()).await, expected(&|_| true));
    let even = LedgerFilter { model: Some("even:1b".into()), ..none() };
    assert_eq!(ids(even).await, expected(&|turn| turn.model == "even:1b"));
    let failed = LedgerFilter { status: Some(TurnStatus::Failed), ..none() };
    assert_eq!(ids(failed).await, expected(&|turn| turn.status == TurnStatus::Failed));

    let row =
        entries(&room, ada.id, none()).await.into_iter().find(|row| row.turn.turn == turns[0].turn).unwrap();
    let Settlement { status, usage, timings, failure, finish_reason, ended_at, .. } = turns[0].clone();
    assert_eq!((row.turn.status, row.turn.failure, row.turn.finish_reason), (status, failure, finish_reason));
    assert_eq!(
        (row.turn.usage, row.turn.timings, row.turn.ended_at),
        (Some(usage), Some(timings), Some(ended_at))
    );

    // A turn of somebody else's is no place in it.
    let stranger = entries(&room, eve.id, none()).await[0].turn.turn;
    assert!(room.db.ledger(ada.id, none(), Some(stranger), 2).await.unwrap().items.is_empty());
}

pub(super) async fn the_ledger_names_the_conversation_until_it_is_thrown_away(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    let (first, second) = (begin(ada.id), begin(ada.id));
    for begin in [&first, &second] {
        room.db.begin_turn(begin.clone()).await.unwrap();
        add(&room, settlement(begin, "because")).await;
    }
    let of = |conversation: ConversationId| LedgerFilter {
        conversation: Some(conversation),
        ..LedgerFilter::default()
    };
    let conversation = stored(&first).conversation;
    let rows = entries(&room, ada.id, of(conversation)).await;
    assert_eq!(rows.iter().map(|row| row.turn.stored).collect::<Vec<_>>(), [Some(stored(&first))]);

    ground.execute("UPDATE conversations SET deleted_at = created_at").await.unwrap();
    assert!(entries(&room, ada.id, of(conversation)).await.is_empty());
    let rows = entries(&room, ada.id, LedgerFilter::default()).await;
    assert_eq!(rows.len(), 2, "what it took is still told");
    assert!(rows.iter().all(|row| row.turn.stored.is_none()));
}

/// Copies the only turn until there are 200,000 more, over November.
async fn fill(ground: &Ground) {
    let (id, second, numbers) = match ground.config.database_url {
        Some(_) => ("gen_random_uuid()", "interval '12.9 seconds'", "generate_series(1, 200000) AS n"),
        None => (
            "randomblob(16)",
            "12900000",
            "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200000) SELECT n FROM n)",
        ),
    };
    let copy = format!(
        "INSERT INTO turns (id, user_id, model, status, prompt_tokens, completion_tokens, usage_source, queued_ms,
                            load_ms, first_token_ms, total_ms, created_at, ended_at)
         SELECT {id}, user_id, model, status, prompt_tokens, completion_tokens, usage_source, queued_ms,
                load_ms, first_token_ms, total_ms, created_at + n * {second}, ended_at FROM turns, {numbers}"
    );
    ground.execute(&copy).await.unwrap();
}

pub(super) async fn a_month_of_200_000_turns_is_added_up_in_the_time_of_one_call(ground: Ground) {
    let room = ground.room().await;
    let ada = some_user(&room.db).await;
    add(&room, ended(&ada, at("2026-11-01T00:00:00Z"))).await;
    fill(&ground).await;
    let of_ada = query(&ada, "2026-11-01", "2026-11-30", by("day"));
    let everybodys = UsageQuery { user: None, ..of_ada.clone() };
    let by_all = UsageQuery { by: by("day,user,model,key,status"), ..everybodys.clone() };
    for asked in [of_ada, everybodys, by_all] {
        let told = room.db.usage(asked, None, PAGE).await.unwrap();
        assert_eq!((told.groups.len(), told.total.requests()), (30, 200_001));
        assert_eq!(told.total.completion_tokens, 7 * 200_001);
    }
}
