//! What an operator is told, once, about the memory of a Redis server that limits are counted on.
//!
//! A server that evicts keys forgets who has spent what; one without a bound grows until the kernel ends it. Full and set to
//! `noeviction` it refuses to count, which opens the breaker: each instance then counts alone, and strictly.

use redis::aio::MultiplexedConnection;

const NO_EVICTION: &str = "noeviction";

/// Asks, and warns. A server that does not tell (an ACL may forbid it) is not judged.
pub(super) async fn give(connection: &mut MultiplexedConnection) {
    let asked: Result<String, _> = redis::cmd("INFO").arg("memory").query_async(connection).await;
    match asked {
        Ok(info) => {
            for advice in of(&info) {
                tracing::warn!(
                    event = "redis_memory",
                    outcome = "advice",
                    advice,
                    "the Redis server should be set up otherwise"
                );
            }
        }
        Err(error) => {
            tracing::debug!(event = "redis_memory", %error, "the Redis server does not tell of its memory")
        }
    }
}

fn of(info: &str) -> Vec<&'static str> {
    let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let (Some(bound), Some(policy)) = (field("maxmemory"), field("maxmemory_policy")) else {
        return Vec::new();
    };
    let mut advice = Vec::new();
    if bound == "0" {
        advice.push("it has no maxmemory, so it grows until the kernel ends it: set one, with maxmemory-policy noeviction");
    }
    if policy != NO_EVICTION {
        advice.push(
            "its maxmemory-policy evicts the keys of limits, and whoever was limited starts afresh: set it to noeviction",
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_is_bounded_and_evicts_nothing_gets_no_advice() {
        let told = |bound: &str, policy: &str| {
            of(&format!("# Memory\r\nused_memory:1\r\nmaxmemory:{bound}\r\nmaxmemory_policy:{policy}\r\n"))
                .len()
        };
        assert_eq!(told("268435456", "noeviction"), 0);
        assert_eq!(told("0", "noeviction"), 1);
        for policy in ["allkeys-lru", "volatile-ttl", "volatile-lru", "allkeys-random"] {
            assert_eq!((told("268435456", policy), told("0", policy)), (1, 2), "{policy}");
        }
        assert_eq!(of("# Memory\r\n").len(), 0, "a server that does not tell");
    }

    #[tokio::test]
    async fn a_real_server_tells_what_is_judged() {
        let server = support::redis::Redis::start().await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut info = async || -> Vec<&'static str> {
            let asked: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
            of(&asked)
        };
        server.run(&["CONFIG", "SET", "maxmemory", "64mb"]).await.unwrap();
        server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
        assert_eq!(info().await.len(), 0);
        server.run(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await.unwrap();
        assert_eq!(info().await.len(), 1);
    }
}
