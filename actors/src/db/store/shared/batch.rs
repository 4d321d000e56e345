//! One transaction: changes sorted by table, one statement each.

use super::{
    super::{
        Connection, audit, claims as keys, conversations as rooms, passwords, purge as rows, search,
        signing_keys, touch, turns,
    },
    accounts, claims, conversations, grants, purge, sessions,
};
use crate::db::{
    DbError,
    message::{Write, Written},
    store::{Applied, plan::Plan, stop::Stop},
};

pub(in crate::db::store) async fn apply(db: &mut Connection, batch: &[&Write]) -> Result<Applied, DbError> {
    let mut plan = Plan::of(batch);
    let mut answers = Plan::answers(batch.len());
    // Before anything else is held: who waits for another lane's keys keeps nobody waiting but for keys that come before.
    claims::take(&mut *db, &mut plan, &mut answers).await?;
    let shared = plan.shared_conversations();
    if !shared.is_empty() {
        // Before one is changed, or two lanes could hold what the other wants.
        rooms::hold_all(&mut *db, &shared).await?;
    }
    for (place, write) in &plan.others {
        let answer = match alone(&mut *db, write).await {
            Ok(written) => Ok(written),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Failed(error)) => return Err(error),
        };
        if let Some(slot) = answers.get_mut(*place) {
            *slot = answer;
        }
    }
    if !plan.begins.is_empty() {
        let admitted = turns::admit(&mut *db, &plan.begins).await?;
        let refused = plan.keep_admitted(&admitted, &mut answers);
        if !refused.is_empty() {
            keys::release(&mut *db, &refused).await?;
        }
        turns::begin(&mut *db, &plan.begins).await?;
    }
    if !plan.opens.is_empty() {
        turns::open(&mut *db, &plan.opens).await?;
    }
    if !plan.checkpoints.is_empty() {
        turns::checkpoint(&mut *db, &plan.checkpoints).await?;
    }
    if !plan.replays.is_empty() {
        let replayed: Vec<_> = plan.replays.iter().map(|(_, settlement)| settlement.turn).collect();
        let known = turns::known(&mut *db, &replayed).await?;
        plan.keep_known(&known, &mut answers);
    }
    if !plan.settlements.is_empty() {
        claims::free(&mut *db, &plan.settlements).await?;
        turns::settle(&mut *db, &plan.settlements).await?;
    }
    if !plan.notes.is_empty() {
        audit::record(&mut *db, &plan.notes).await?;
    }
    Ok(answers)
}

/// Writes what has no batch form.
async fn alone(db: &mut Connection, write: &Write) -> Result<Written, Stop> {
    Ok(match write {
        Write::CreateUser(new) => accounts::create(db, &new.0, &new.1).await?.into(),
        Write::CreateInvitedUser { account, invite, now, audit } => {
            accounts::create_invited(db, account, invite, *now, audit).await?.into()
        }
        Write::UpdateUser { user, change, now, audit } => {
            accounts::update(db, *user, change, *now, audit).await?.into()
        }
        Write::DeleteUser { user, now, audit } => accounts::delete(db, *user, *now, audit).await?.into(),
        Write::SetPassword(set) => accounts::set_password(db, set).await?.into(),
        Write::ReplacePasswordHash { user, old, new } => {
            passwords::replace(db, *user, old, new).await?.into()
        }
        Write::StartSession(new) => sessions::start(db, &new.0, &new.1, &new.2).await?.into(),
        Write::RotateSession(rotate) => sessions::rotate(db, rotate).await?.into(),
        Write::EndSessions { user, which, now, audit } => {
            sessions::end(db, *user, *which, *now, audit).await?.into()
        }
        Write::Touch(touched) => touch::touch(db, touched).await?.into(),
        Write::CreateApiKey { key, hash, audit } => grants::create_key(db, key, hash, audit).await?.into(),
        Write::ChangeApiKey { key, change, audit } => {
            grants::change_key(db, *key, change, audit).await?.into()
        }
        Write::RevokeApiKey { owner, key, now, audit } => {
            grants::revoke_key(db, *owner, *key, *now, audit).await?.into()
        }
        Write::CreateInvite { invite, hash, audit } => {
            grants::create_invite(db, invite, hash, audit).await?.into()
        }
        Write::OfferFirstAdmin { invite, hash } => grants::offer_first_admin(db, invite, hash).await?.into(),
        Write::RevokeInvite { invite, now, audit } => {
            grants::revoke_invite(db, *invite, *now, audit).await?.into()
        }
        Write::AddSigningKey { key, audit } => grants::add_signing_key(db, key, audit).await?.into(),
        Write::CreateConversation { owner, conversation } => {
            conversations::create(db, *owner, conversation).await?.into()
        }
        Write::UpdateConversation { owner, conversation, change, now } => {
            conversations::update(db, *owner, *conversation, change, *now).await?.into()
        }
        Write::DeleteConversation { owner, conversation, now } => {
            conversations::delete(db, *owner, *conversation, *now).await?.into()
        }
        Write::RenewLeases { owner, until } => turns::renew(db, *owner, *until).await?.into(),
        Write::PurgeSessions { before, limit } => rows::sessions(db, *before, *limit).await?.into(),
        Write::PurgeConversations => purge::conversations(db).await?.into(),
        Write::RetireConversations { before, now, limit } => {
            rows::retire(db, *before, *now, *limit).await?.into()
        }
        Write::IndexMessages(worded) => search::index(db, worded).await?.into(),
        Write::IndexTitles(worded) => search::index_titles(db, worded).await?.into(),
        Write::TidyIndex => search::tidy(db).await?.into(),
        Write::SweepDead(sweep) => turns::sweep(db, sweep).await?.into(),
        Write::RequestCancel { user, turn } => turns::request_cancel(db, *user, *turn).await?.into(),
        Write::ReleaseClaims { before, limit } => keys::release_before(db, *before, *limit).await?.into(),
        Write::Probe => signing_keys::rewrite(db).await?.into(),
        Write::BeginTurn(_)
        | Write::OpenTurn(_)
        | Write::Checkpoint(_)
        | Write::Settle(_)
        | Write::Replay(_)
        | Write::Note(_) => {
            return Err(DbError::Broken("a batched change outside its batch".into()).into());
        }
    })
}
