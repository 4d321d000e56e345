//! The way to the Redis server that instances share: for the limits and for the relay, each on connections of its own.

use std::time::Duration;

use domain::secret::Secret;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};

/// How long one attempt to connect may take.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_millis(500);

/// Whom to connect to; nobody is asked yet.
///
/// # Errors
///
/// Why not, for the operator; never with the address, which holds credentials.
pub(crate) fn client(url: &Secret<String>) -> Result<Client, &'static str> {
    Client::open(url.reveal().as_str()).map_err(|_| "REDIS_URL is no address of a Redis server")
}

/// A connection on which each answer may take as long as `patience`.
pub(crate) async fn connect(
    client: &Client,
    patience: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_PATIENCE))
        .set_response_timeout(Some(patience));
    client.get_multiplexed_async_connection_with_config(&config).await
}
