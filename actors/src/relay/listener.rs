//! The ListenerActor: hears what other instances say, for all turns on one connection.
//!
//! It reads the asks for this instance and the streams of all turns that are followed here in one question, which the server
//! holds back until there is something. A turn that comes to be followed meanwhile has this instance ask itself, so that the
//! question is put anew.
//!
//! # When it breaks
//!
//! It remembers how far it has read the asks, and nothing else: its successor hears them again, and each may be heard twice.
//! Where a turn's stream was read to, the turn's mirror knows.

use std::{sync::Arc, time::Duration};

use domain::id::InstanceId;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    cancels::Cancels,
    following::Following,
    link::{EntryId, Hearing, Link, LinkError},
    relaying::Relaying,
    wire::{Ask, asks_of, decode},
};

/// Between two attempts to reach a server that is away.
const PROBE_EVERY: Duration = Duration::from_secs(1);

pub(super) enum ListenerMessage {
    Listen,
}

#[derive(Clone)]
pub(super) struct Ears {
    pub instance: InstanceId,
    pub link: Arc<Link>,
    pub following: Arc<Following>,
    pub relaying: Arc<Relaying>,
    pub cancels: Cancels,
    pub halt: CancellationToken,
}

pub(super) struct Listening {
    ears: Ears,
    hearing: Option<Hearing>,
    after: EntryId,
}

pub(super) struct ListenerActor;

impl Actor for ListenerActor {
    type Msg = ListenerMessage;
    type State = Listening;
    type Arguments = Ears;

    async fn pre_start(
        &self,
        _: ActorRef<ListenerMessage>,
        ears: Ears,
    ) -> Result<Listening, ActorProcessingErr> {
        Ok(Listening { ears, hearing: None, after: EntryId::default() })
    }

    async fn post_start(
        &self,
        me: ActorRef<ListenerMessage>,
        _: &mut Listening,
    ) -> Result<(), ActorProcessingErr> {
        me.cast(ListenerMessage::Listen)?;
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<ListenerMessage>,
        ListenerMessage::Listen: ListenerMessage,
        listening: &mut Listening,
    ) -> Result<(), ActorProcessingErr> {
        let halt = listening.ears.halt.clone();
        // One round, then the mailbox: who wants this actor to stop waits for one answer of the server at most.
        if halt.run_until_cancelled(listening.round()).await.is_some() {
            me.cast(ListenerMessage::Listen)?;
        }
        Ok(())
    }
}

impl Listening {
    async fn round(&mut self) {
        let heard = match &mut self.hearing {
            None => self.connect().await,
            Some(hearing) => Self::listen(&self.ears, hearing, &mut self.after).await,
        };
        if let Err(error) = heard {
            self.hearing = None;
            self.ears.link.give_up(&error);
            sleep(PROBE_EVERY).await;
        }
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        self.hearing = Some(self.ears.link.connect().await?);
        // A server that restarted may count from elsewhere.
        self.after = EntryId::default();
        Ok(())
    }

    async fn listen(ears: &Ears, hearing: &mut Hearing, after: &mut EntryId) -> Result<(), LinkError> {
        ears.link.connect_to_speak().await?;
        let asks = asks_of(ears.instance);
        let mut streams = ears.following.streams();
        streams.push((asks.clone(), *after));
        for read in hearing.read(&streams).await? {
            if read.stream != asks {
                ears.following.hear(&read.stream, read.entries);
                continue;
            }
            for (id, words) in read.entries {
                *after = id;
                match decode(&words) {
                    Some(Ask::Follow { user, turn }) => ears.relaying.wanted(user, turn),
                    Some(Ask::Cancel) => ears.cancels.look(),
                    Some(Ask::Look) | None => {}
                }
            }
        }
        Ok(())
    }
}
