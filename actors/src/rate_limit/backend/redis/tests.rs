//! The scripts decide as the domain does, exactly, on a real server and its clock: each reply tells what time it was there,
//! so the domain can be asked about the same moment.

use std::{net::Ipv4Addr, time::Duration};

use domain::{
    guessing::{Guesses, Rule},
    id::UserId,
    quota::{Bucket, Micros, Quota, Span},
    session::Network,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
use uuid::Uuid;

use super::scripts::{self, Scripts};
use crate::rate_limit::{
    Scope,
    key::{Charge, Charges, Key},
    message::LookEnd,
    turn::{Hold, Kept},
};

async fn server() -> (MultiplexedConnection, Scripts) {
    let server = support::redis::Redis::shared().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let scripts = Scripts::load(&mut connection).await.unwrap();
    (connection, scripts)
}

async fn ask<R: FromRedisValue>(connection: &mut MultiplexedConnection, command: &Cmd) -> R {
    command.query_async(connection).await.unwrap()
}

/// One random value; real time passes, so no run is like another anyway.
fn any<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

fn key() -> Key {
    UserId::from(Uuid::now_v7()).into()
}

/// Quotas that fill within milliseconds, so that a schedule sees them empty and full, and the largest we count with.
fn quota() -> impl Strategy<Value = Quota> {
    let small = (1u32..5_000, 1u64..50_000, 1u32..30);
    let large = (1u32..=u32::MAX, 1u64..86_400_000_000, 1u32..=u32::MAX);
    prop_oneof![4 => small, 1 => large].prop_map(|(permits, period, burst)| Quota {
        permits,
        period: Duration::from_micros(period),
        burst,
    })
}

#[tokio::test]
async fn c1_c6_buckets_on_the_server_are_those_of_the_domain_to_the_last_fraction() {
    let (mut connection, scripts) = server().await;
    let mut runner = TestRunner::default();
    let (mut paid, mut refused, mut owing) = (0, 0, 0);
    for _ in 0..40 {
        let quotas = any(&mut runner, prop::collection::vec(quota(), 1..=3));
        let keys: Vec<_> = quotas.iter().map(|_| key()).collect();
        let mut model = vec![Bucket::default(); quotas.len()];
        for _ in 0..40 {
            let costs = any(&mut runner, prop::collection::vec(0u32..8, quotas.len()));
            let mut charges = (0..quotas.len()).map(|at| Charge {
                scope: Scope::User,
                key: keys[at],
                quota: quotas[at],
                cost: costs[at],
            });
            let charges = Charges { first: charges.next().unwrap(), more: charges.collect() };
            let command = scripts.take(&charges).unwrap();
            let reply: redis::Value = ask(&mut connection, &command).await;
            let numbers: Vec<u64> = redis::from_redis_value(reply.clone()).unwrap();
            let now = Micros(numbers[1]);
            let parts = numbers[3..].iter().step_by(2);
            assert!(parts.zip(&quotas).all(|(part, quota)| *part < u64::from(quota.permits)), "{numbers:?}");

            let expected =
                charges.decide(|at, charge| charge.quota.take(&mut model[at].clone(), now, charge.cost));
            let is_paid = expected.verdict.allowed;
            assert_eq!(scripts::decision(&charges, reply), Some(expected), "{charges:?}");
            assert_eq!(numbers[0] == 1, is_paid, "{charges:?}");
            if is_paid {
                for (bucket, charge) in model.iter_mut().zip(charges.iter()) {
                    charge.quota.take(bucket, now, charge.cost);
                }
                paid += 1;
            } else {
                refused += 1;
            }
            if any(&mut runner, prop::bool::weighted(0.5)) {
                let spent = any(&mut runner, prop_oneof![3 => 0u32..12, 1 => 0u32..60]);
                let amounts = any(&mut runner, prop::collection::vec(0u32..12, quotas.len()));
                let hold = |(Charge { scope, key, quota, .. }, amount): (&Charge, u32)| Hold {
                    scope: *scope,
                    key: *key,
                    quota: *quota,
                    amount,
                    kept: Kept::Server,
                };
                let holds: Vec<_> = charges.iter().zip(amounts).map(hold).collect();
                let command = scripts.settle(charges.first.key, &holds, spent).unwrap();
                let numbers: Vec<u64> = ask(&mut connection, &command).await;
                let now = Micros(numbers[0]);
                for ((bucket, hold), held) in model.iter_mut().zip(&holds).zip(numbers[1..].chunks(2)) {
                    let part = u32::try_from(held[1]).unwrap();
                    assert!(part < hold.quota.permits, "{numbers:?}");
                    let mut told = hold.quota.bucket(Span { micros: held[0], part });
                    let look = |bucket: &mut Bucket| hold.quota.take(bucket, now, 0);
                    assert_eq!(look(&mut told), look(&mut bucket.clone()), "{hold:?}");
                    hold.quota.settle(bucket, now, hold.amount, spent);
                }
                owing += usize::from(
                    model
                        .iter()
                        .zip(&quotas)
                        .any(|(bucket, quota)| !quota.take(&mut bucket.clone(), now, 0).allowed),
                );
            }
            let pause = any(&mut runner, prop_oneof![3 => Just(0), 1 => 0u64..3_000]);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }
    assert!(
        paid > 50 && refused > 50 && owing > 20,
        "{paid} paid, {refused} refused and {owing} in debt test too little"
    );
}

#[tokio::test]
async fn a06_guesses_on_the_server_are_those_of_the_domain() {
    let (mut connection, scripts) = server().await;
    let mut runner = TestRunner::default();
    let rule = Rule {
        free: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(9),
        besieged: 12,
        memory: Duration::from_millis(60),
        networks: 3,
    };
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..12 {
        let account = Uuid::now_v7().into_bytes();
        let mut model = Guesses::default();
        for _ in 0..150 {
            let network = Network::of(Ipv4Addr::new(10, 0, any(&mut runner, 0u8..6), 1).into());
            let end = any(
                &mut runner,
                prop_oneof![12 => Just(None), 1 => Just(Some(LookEnd::Right)), 1 => Just(Some(LookEnd::Undone))],
            );
            if let Some(end) = end {
                let _: u64 = ask(&mut connection, &scripts.looked(&account, network, end)).await;
                match end {
                    LookEnd::Right => rule.right(&mut model, network),
                    LookEnd::Undone => rule.undo(&mut model, network),
                }
                continue;
            }
            let is_known = any(&mut runner, prop::bool::weighted(0.2));
            let command = scripts.guess(&rule, &account, network, is_known);
            let reply: redis::Value = ask(&mut connection, &command).await;
            let (_, _, now): (u64, bool, u64) = redis::from_redis_value(reply.clone()).unwrap();
            let expected = rule.admit(&mut model, Micros(now), network, is_known);
            assert_eq!(scripts::judgement(reply), Some(expected), "{network} {is_known} {model:?}");
            match expected {
                Ok(()) => admitted += 1,
                Err(_) => refused += 1,
            }
            // Now and then long enough to forget.
            let pause =
                any(&mut runner, prop_oneof![80 => 0u64..2_000, 10 => 0u64..12_000, 1 => Just(70_000)]);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }
    assert!(admitted > 200 && refused > 200, "{admitted} admitted and {refused} refused test too little");
}
