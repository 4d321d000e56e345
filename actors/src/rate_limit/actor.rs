//! One shard: hands each question to its backend, in the order of arrival.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{backend::Backend, message::RateLimitMessage};

pub(super) struct RateLimitActor;

impl Actor for RateLimitActor {
    type Msg = RateLimitMessage;
    type State = Box<dyn Backend>;
    type Arguments = Box<dyn Backend>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        backend: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(backend)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        question: Self::Msg,
        backend: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        backend.ask(question);
        Ok(())
    }
}
