//! The model servers as operators see them, and how they drain one.
//!
//! A server that drains lets no turn begin: those that run there end there, those that wait are served by the others. It is
//! known to this instance only, for as long as it runs, and stays so when the settings are read again.

use super::{ModelHandle, breaker::Phase, live::Live};

/// One model server as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStanding {
    /// In the configuration.
    pub name: String,
    /// As it is written in the settings.
    pub kind: &'static str,
    /// Without credentials; `None` for what is built in.
    pub address: Option<String>,
    pub weight: u32,
    pub state: ServerState,
    /// `closed`, `half_open` or `open`.
    pub breaker: &'static str,
    /// What it has, by the names that callers give, those of a server that is away from before.
    pub models: Vec<String>,
    /// Turns that it may run at once, all its models together, and those that it runs.
    pub slots: usize,
    pub running: usize,
    /// How often it failed us, by kind.
    pub failures: Vec<(&'static str, u64)>,
}

/// In the words of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    Up,
    Away,
    Draining,
}

impl ServerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Away => "away",
            Self::Draining => "draining",
        }
    }
}

/// What came of asking for a server to drain, or to serve again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    pub server: ServerStanding,
    /// Whether it was otherwise before.
    pub is_change: bool,
}

impl ModelHandle {
    /// All servers, in the order of the configuration.
    pub fn fleet(&self) -> Vec<ServerStanding> {
        let live = self.0.routing.live.load_full();
        (0..live.upstreams.len()).map(|index| self.standing(&live, index)).collect()
    }

    /// Lets no turn begin on this server any more (`drains`), or lets them begin again; `None` if there is no such server.
    pub fn drain(&self, name: &str, drains: bool) -> Option<Drained> {
        let live = self.0.routing.live.load_full();
        let index = live.config.upstreams.iter().position(|server| server.name == name)?;
        let is_change = live.upstreams[index].set_draining(drains);
        if is_change {
            for list in self.0.routing.lists() {
                list.look_again();
            }
        }
        Some(Drained { server: self.standing(&live, index), is_change })
    }

    fn standing(&self, live: &Live, index: usize) -> ServerStanding {
        let (config, upstream) = (&live.config.upstreams[index], &live.upstreams[index]);
        let (mut models, mut slots, mut running) = (Vec::new(), 0, 0);
        for (name, route) in &self.0.routing.table.load().0 {
            let busy = route.list.busy();
            let mut here = route.seats.iter().filter(|seat| seat.server.is_on(upstream)).peekable();
            if here.peek().is_some() {
                models.push(name.to_string());
            }
            for seat in here {
                slots += 1;
                running += usize::from(busy.contains(&seat.index));
            }
        }
        ServerStanding {
            name: config.name.clone(),
            kind: config.kind.word(),
            address: config.kind.address().map(str::to_owned),
            weight: upstream.weight(),
            state: match (upstream.is_draining(), upstream.is_up()) {
                (true, _) => ServerState::Draining,
                (false, true) => ServerState::Up,
                (false, false) => ServerState::Away,
            },
            breaker: match upstream.breaker() {
                Phase::Closed => "closed",
                Phase::HalfOpen => "half_open",
                Phase::Open => "open",
            },
            models,
            slots,
            running,
            failures: upstream.failures().collect(),
        }
    }
}
