//! How a turn begins: admitted to a queue, armed so that it is settled whatever happens, opened in the store, lined up.
//!
//! Dropping the future at any point leaves no place, slot or `streaming` row behind: the turn's writer exists, armed with its
//! settlement, before the first row is written.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    chat::ChatRequest,
    conversation::{UNTITLED, title_from},
    embedding::EmbedRequest,
    id::{MessageId, TurnId},
    limits::Priority,
    model_name::ModelName,
    principal::Principal,
    reply::FailureCode,
    turn::{BeginTurn, Begun, Exchange, StoredReply, StoredTurn, TurnStatus},
};
use tokio::time::Instant;

use super::{
    ModelError, ModelHandle, StartedEmbedding, StartedTurn, TurnOptions,
    choice::Chosen,
    embedding::Embedding,
    history::Said,
    route::Route,
    settlement::{Facts, settle},
    told,
    turn::{Job, Progress, Work},
    turns::Entry,
    waiting_list::{Place, Refusal},
};
use crate::{
    clock::fresh_id,
    db::{DbError, SettlePermit},
    rate_limit::TokenReserve,
    reply::{End, OnDisconnect, ReplyWriter, channel},
    trace::Carrier,
};

/// A place in a queue, and for whom.
struct Admitted<'a> {
    principal: &'a Principal,
    options: TurnOptions,
    /// In the caller's spelling.
    model: ModelName,
    route: Arc<Route>,
    /// Tokens that its answer may have.
    answer_tokens: u32,
    place: Place,
    priority: Priority,
    deadline: Option<Instant>,
}

/// What the turn is called and where its answer goes.
struct Identity {
    turn: TurnId,
    message: MessageId,
    stored: Option<StoredReply>,
    created_at: DateTime<Utc>,
}

/// The request that asked for the turn, what is measured of it and what it took in advance.
struct Account {
    carrier: Carrier,
    /// Its name in traces.
    operation: &'static str,
    progress: Arc<Progress>,
    permit: SettlePermit,
    reserve: TokenReserve,
}

impl ModelHandle {
    /// Admits a turn: takes a place in the model's queue, stores the turn's first rows and lines it up.
    ///
    /// Dropping this future at any point leaves no place, slot or `streaming` row behind. `reserve` is settled with what the
    /// turn really spends, or given back with it.
    ///
    /// # Errors
    ///
    /// See [`ModelError`]; nothing was stored, except that after [`ModelError::Unavailable`] rows may exist, which are then
    /// settled as cancelled, and counted nowhere. After [`ModelError::Exists`] there is a turn to attach to.
    pub async fn start_turn(
        &self,
        principal: &Principal,
        mut request: ChatRequest,
        options: TurnOptions,
        reserve: TokenReserve,
    ) -> Result<StartedTurn, ModelError> {
        let admitted = self.admit(principal, &request.model, options)?;
        request.sampling.bound_answer(admitted.answer_tokens);
        let title = title_from(&request.messages);
        let context = admitted.route.model.card.context_length;
        let said = self.put_history_before(principal, &options, context, &mut request).await?;
        let exchange = options.store.then(|| exchange(said, title, &options));
        self.launch(admitted, Work::Chat(Box::new(request)), exchange, reserve).await
    }

    /// The same for texts that are to become vectors. Nothing of them is kept but what they cost, so nobody can come back for them:
    /// of `options` only the priority and the deadline count.
    ///
    /// # Errors
    ///
    /// As [`ModelHandle::start_turn`].
    pub async fn start_embedding(
        &self,
        principal: &Principal,
        request: EmbedRequest,
        options: TurnOptions,
        reserve: TokenReserve,
    ) -> Result<StartedEmbedding, ModelError> {
        let TurnOptions { priority, deadline, .. } = options;
        let options = TurnOptions { priority, deadline, ..TurnOptions::default() };
        let admitted = self.admit(principal, &request.model, options)?;
        let (embedding, vectors) = Embedding::new(request);
        let started = self.launch(admitted, Work::Embed(embedding), None, reserve).await?;
        let StartedTurn { turn, position, model, created_at, reader, .. } = started;
        Ok(StartedEmbedding { turn, position, model, created_at, reader, vectors })
    }

    /// Takes a place in the model's queue, if there is any use in waiting there.
    fn admit<'a>(
        &self,
        principal: &'a Principal,
        model: &ModelName,
        options: TurnOptions,
    ) -> Result<Admitted<'a>, ModelError> {
        let room = &*self.0;
        let Chosen { route, answer_tokens } = self.choose(principal, model)?;
        if !room.turns.make_room() {
            return Err(ModelError::NoRoom("answers under way fill the reply budget"));
        }
        if room.closing.is_cancelled() {
            // This list may be younger than the shutdown.
            route.list.stop_waiting(true);
        }
        let priority = principal.priority(options.priority);
        // A turn that is to run to its end has nobody who waits for it to begin.
        let deadline = options.deadline.filter(|_| !options.continue_on_disconnect);
        let reserved = route.list.reserve(principal.user, priority, deadline);
        let place = reserved.map_err(|refusal| refused_by_queue(refusal, model))?;
        let model = model.clone();
        Ok(Admitted { principal, options, model, route, answer_tokens, place, priority, deadline })
    }

    /// Arms the turn, opens its rows and puts it in line.
    async fn launch(
        &self,
        admitted: Admitted<'_>,
        work: Work,
        exchange: Option<Exchange>,
        reserve: TokenReserve,
    ) -> Result<StartedTurn, ModelError> {
        let room = &*self.0;
        let kib = u32::try_from(work.memory_bytes().div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let memory = room.prompts.clone().try_acquire_many_owned(kib);
        let memory = memory.map_err(|_| ModelError::NoRoom("prompts under way fill the prompt budget"))?;
        let identity = self.identify(exchange.as_ref());
        let account = Account {
            carrier: Carrier::here(),
            operation: work.operation(),
            progress: Arc::new(Progress::new(work.estimated_prompt_tokens())),
            permit: room.routing.db.reserve_settlement(identity.turn)?,
            reserve,
        };
        let (carrier, progress) = (account.carrier.clone(), account.progress.clone());
        let (mut writer, started) = self.arm(&admitted, &identity, account);
        writer.begins();
        if let Err(error) = self.open(&admitted, &identity, exchange).await {
            // Only where the outcome is unknown may a row exist that wants settling.
            match error {
                ModelError::Unavailable(_) => writer.end(End::NotBegun),
                _ => writer.discard(),
            }
            return Err(error);
        }
        writer.has_begun();
        let Admitted { principal, place, priority, deadline, .. } = admitted;
        let position = place.fill(Job {
            turn: identity.turn,
            user: principal.user,
            priority,
            deadline,
            streams: room.limits.streams_of(principal),
            work,
            _memory: memory,
            failed_at: None,
            stored: identity.stored,
            progress,
            writer,
            waiting: carrier.span("model.queue.wait"),
            carrier,
        });
        Ok(StartedTurn { position, ..started })
    }

    fn identify(&self, exchange: Option<&Exchange>) -> Identity {
        let turn: TurnId = fresh_id();
        // One that is kept nowhere is called after its turn, so that all instances call it the same.
        let message = exchange.map_or(turn.as_uuid().into(), |exchange| exchange.reply);
        let stored = exchange.map(|exchange| StoredReply { conversation: exchange.conversation, message });
        Identity { turn, message, stored, created_at: self.0.leases.clock.now() }
    }

    /// Opens the turn's reply channel and registers it. From now on it is settled, however it ends.
    fn arm(
        &self,
        admitted: &Admitted<'_>,
        identity: &Identity,
        account: Account,
    ) -> (ReplyWriter, StartedTurn) {
        let room = &*self.0;
        let Admitted { principal, options, model, route, priority, .. } = admitted;
        let Identity { turn, message, stored, created_at } = *identity;
        let on_disconnect =
            if options.continue_on_disconnect { OnDisconnect::Continue } else { OnDisconnect::Cancel };
        let (bytes_max, longest) = {
            let live = room.routing.live.load();
            (live.config.reply_bytes_max, live.config.turn_max)
        };
        let (mut writer, reader) = channel(&room.budget, bytes_max, on_disconnect);
        let started = StartedTurn {
            turn,
            position: 0,
            message,
            conversation: stored.map(|stored| stored.conversation),
            model: model.clone(),
            created_at,
            reader,
        };
        let registered = room.turns.enter(Entry {
            turn: StoredTurn {
                turn,
                user: principal.user,
                model: route.model.name.to_string(),
                stored,
                status: TurnStatus::Streaming,
                failure: None,
                finish_reason: None,
                usage: None,
                timings: None,
                owner: Some(room.leases.instance),
                created_at,
                ended_at: None,
            },
            names: started.names(),
            log: started.reader.log(),
            claim: options.claim,
            is_kept: options.store || options.claim.is_some() || options.is_streamed,
            until: Instant::now() + longest,
        });
        told::asked(&account.carrier, account.operation, &route.model.name, turn, stored);
        let facts = Facts {
            carrier: account.carrier,
            turn,
            user: principal.user,
            key: principal.key(),
            claim: options.claim,
            owner: room.leases.instance,
            priority: *priority,
            model: route.model.name.to_string(),
            stored,
            created_at,
            progress: account.progress,
            reserve: account.reserve,
            registered,
        };
        let (db, clock) = (room.routing.db.clone(), room.leases.clock.clone());
        writer.settle_with(settle(facts, db, account.permit, clock, route.list.metrics().clone()));
        (writer, started)
    }

    /// Opens the turn's rows; of one that is neither stored nor has a key nobody waits for them.
    async fn open(
        &self,
        admitted: &Admitted<'_>,
        identity: &Identity,
        exchange: Option<Exchange>,
    ) -> Result<(), ModelError> {
        let (db, leases) = (&self.0.routing.db, &self.0.leases);
        let has_key = admitted.options.claim.is_some();
        let is_awaited = exchange.is_some() || has_key;
        let begin = BeginTurn {
            turn: identity.turn,
            user: admitted.principal.user,
            key: admitted.principal.key(),
            claim: admitted.options.claim,
            exchange,
            model: admitted.route.model.name.to_string(),
            owner: leases.instance,
            lease_until: leases.until(),
            created_at: identity.created_at,
        };
        if !is_awaited {
            db.open_turn(begin);
            return Ok(());
        }
        match db.begin_turn(begin).await {
            Ok(Begun::New) => Ok(()),
            Ok(Begun::Exists { turn, same_request: true }) => Err(ModelError::Exists(turn)),
            Ok(Begun::Exists { same_request: false, .. }) => Err(ModelError::KeyTaken),
            Err(DbError::Conflict(_)) if has_key => {
                Err(ModelError::Unavailable("the key was freed and taken again".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What is said in the turn, in a conversation that is called `title` if it has no title yet.
fn exchange(said: Said, title: String, options: &TurnOptions) -> Exchange {
    Exchange {
        conversation: said.conversation,
        title_if_untitled: (said.is_untitled && title != UNTITLED).then(|| title.clone()),
        new_conversation_title: options.conversation.is_none().then_some(title),
        parent: Some(said.parent),
        messages: said.messages,
        reply: said.reply,
    }
}

fn refused_by_queue(refusal: Refusal, model: &ModelName) -> ModelError {
    match refusal {
        Refusal::UserFull(retry_after) => ModelError::UserQueueFull { retry_after },
        Refusal::Full(retry_after) => ModelError::QueueFull { retry_after },
        Refusal::TooLate(retry_after) => ModelError::CannotStartInTime { retry_after },
        Refusal::Closed(FailureCode::ModelNotFound) => ModelError::UnknownModel(model.to_string()),
        Refusal::Closed(_) => ModelError::ShuttingDown,
    }
}
