//! SessionCache: keeps what the callers' tasks remember small and trustworthy.
//!
//! Callers read and write the caches themselves. This actor makes them forget what is not used, and starts with
//! nothing: whatever made its predecessor die may have touched what it kept. AuthActor is listed after it and starts
//! again with it, so that no look-up from before finds its way into the new memory.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{message::CacheMessage, sessions::Sessions, tokens::VerifiedTokens, truth::MAX_STALE};

/// What was not used for one to two of these is forgotten; truth must live on as long as it may serve.
const AGE_EVERY: Duration = MAX_STALE;

pub(super) struct SessionCache {
    pub(super) sessions: Arc<Sessions>,
    pub(super) tokens: Arc<VerifiedTokens>,
}

impl Actor for SessionCache {
    type Msg = CacheMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<CacheMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        self.sessions.clear();
        self.tokens.clear();
        // The timer ends with this incarnation.
        me.send_interval(AGE_EVERY, || CacheMessage::Age);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<CacheMessage>,
        CacheMessage::Age: CacheMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.sessions.age();
        self.tokens.age();
        Ok(())
    }
}
