//! The room's public handle: reads the snapshot, admits turns.

use std::sync::Arc;

use domain::{
    chat::ChatRequest,
    conversation::{UNTITLED, title_from},
    id::TurnId,
    model_name::ModelName,
    principal::Principal,
    reply::FailureCode,
    turn::{BeginTurn, Begun, Exchange, StoredReply, StoredTurn, TurnStatus},
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Model, ModelError, StartedTurn, TurnOptions,
    claims::Lines,
    lease::Leases,
    route::Route,
    router::Routing,
    settlement::{Facts, settle},
    told,
    turn::{Job, Progress},
    turns::{Entry, Turns},
    waiting_list::Refusal,
};
use crate::{
    clock::fresh_id,
    db::DbError,
    rate_limit::{RateLimitHandle, TokenReserve},
    reply::{End, OnDisconnect, ReplyBudget, channel},
    trace::Carrier,
    tree::Tree,
};

/// Asks the model room; clones share one room.
#[derive(Clone)]
pub struct ModelHandle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub routing: Arc<Routing>,
    pub leases: Leases,
    pub limits: RateLimitHandle,
    pub budget: ReplyBudget,
    /// Those whose answer is in memory.
    pub turns: Arc<Turns>,
    pub lines: Arc<Lines>,
    /// Memory for all prompts, in KiB.
    pub prompts: Arc<Semaphore>,
    pub tree: Tree,
    pub closing: CancellationToken,
}

impl ModelHandle {
    /// All known models, by name. Served from a snapshot, also while model servers are down.
    pub fn models(&self) -> Vec<Model> {
        self.0.routing.table.load().0.values().map(|route| route.describe(self.is_degraded(route))).collect()
    }

    pub fn model(&self, name: &ModelName) -> Option<Model> {
        let table = self.0.routing.table.load();
        let route = table.0.get(&name.canonical())?;
        Some(route.describe(self.is_degraded(route)))
    }

    /// Whether there is a model of this name.
    pub fn offers(&self, name: &ModelName) -> bool {
        self.0.routing.table.load().0.contains_key(&name.canonical())
    }

    /// Bytes of all live answers, and their bound.
    pub fn reply_bytes(&self) -> (usize, usize) {
        (self.0.budget.used(), self.0.budget.limit())
    }

    /// Admits a turn: takes a place in the model's queue, stores the turn's first rows and lines it up.
    ///
    /// Dropping this future at any point leaves no place, slot or `streaming` row behind. `reserve` is settled with what the
    /// turn really spends, or given back with it.
    ///
    /// # Errors
    ///
    /// See [`ModelError`]; nothing was stored, except that after [`ModelError::Unavailable`] rows may exist, which are then
    /// settled as cancelled. After [`ModelError::Exists`] there is a turn to attach to.
    pub async fn start_turn(
        &self,
        principal: &Principal,
        mut request: ChatRequest,
        options: TurnOptions,
        reserve: TokenReserve,
    ) -> Result<StartedTurn, ModelError> {
        let room = &*self.0;
        let table = room.routing.table.load_full();
        let route = table
            .0
            .get(&request.model.canonical())
            .ok_or_else(|| ModelError::UnknownModel(request.model.to_string()))?;
        if self.is_degraded(route) {
            return Err(ModelError::Degraded);
        }
        if let Some(retry_after) = route.refuses_for() {
            return Err(ModelError::ServerAway { retry_after });
        }
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
        let place = reserved.map_err(|refusal| refused_by_queue(refusal, &request.model))?;
        let title = title_from(&request.messages);
        let context = route.model.card.context_length;
        let said = self.put_history_before(principal, &options, context, &mut request).await?;
        let kib = u32::try_from(request.memory_bytes().div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let memory = room.prompts.clone().try_acquire_many_owned(kib);
        let _memory = memory.map_err(|_| ModelError::NoRoom("prompts under way fill the prompt budget"))?;

        let turn: TurnId = fresh_id();
        // One that is kept nowhere is called after its turn, so that all instances call it the same.
        let message = if options.store { said.reply } else { turn.as_uuid().into() };
        let stored = options.store.then_some(StoredReply { conversation: said.conversation, message });
        let permit = room.routing.db.reserve_settlement(turn)?;
        let created_at = room.leases.clock.now();
        let progress = Arc::new(Progress::new(&request));
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
            model: request.model.clone(),
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
        let carrier = Carrier::here();
        told::asked(&carrier, &route.model.name, turn, stored);
        let facts = Facts {
            carrier: carrier.clone(),
            turn,
            user: principal.user,
            key: principal.key(),
            claim: options.claim,
            owner: room.leases.instance,
            priority,
            model: route.model.name.to_string(),
            stored,
            created_at,
            progress: progress.clone(),
            reserve,
            registered,
        };
        writer.settle_with(settle(
            facts,
            room.routing.db.clone(),
            permit,
            room.leases.clock.clone(),
            route.list.metrics().clone(),
        ));
        writer.begins();

        let begin = BeginTurn {
            turn,
            user: principal.user,
            key: principal.key(),
            claim: options.claim,
            exchange: stored.map(|stored| Exchange {
                conversation: stored.conversation,
                title_if_untitled: (said.is_untitled && title != UNTITLED).then(|| title.clone()),
                new_conversation_title: options.conversation.is_none().then_some(title),
                parent: Some(said.parent),
                messages: said.messages,
                reply: message,
            }),
            model: route.model.name.to_string(),
            owner: room.leases.instance,
            lease_until: room.leases.until(),
            created_at,
        };
        if let Err(error) = self.open(begin).await {
            // Only where the outcome is unknown may a row exist that wants settling.
            match error {
                ModelError::Unavailable(_) => writer.end(End::Cancelled),
                _ => writer.discard(),
            }
            return Err(error);
        }
        writer.has_begun();
        let (user, streams) = (principal.user, room.limits.streams_of(principal));
        let waiting = carrier.span("model.queue.wait");
        let job = Job {
            turn,
            user,
            priority,
            deadline,
            streams,
            request,
            _memory,
            stored,
            progress,
            writer,
            carrier,
            waiting,
        };
        let position = place.fill(job);
        Ok(StartedTurn { position, ..started })
    }

    /// Opens the turn's rows; of one that is neither stored nor has a key nobody waits for them.
    async fn open(&self, begin: BeginTurn) -> Result<(), ModelError> {
        let db = &self.0.routing.db;
        let has_key = begin.claim.is_some();
        if begin.exchange.is_none() && !has_key {
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

    fn is_degraded(&self, route: &Route) -> bool {
        self.0.tree.is_degraded(&route.tree_path)
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
