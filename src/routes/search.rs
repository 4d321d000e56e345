//! `GET /v1/conversations?q=…`: conversations by what was said in them.

use actors::system::System;
use domain::{
    conversation::Activity,
    id::MessageId,
    search::{Found, Query, Unsearchable},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    conversations::ConversationView,
    list::{List, PageRequest},
};
use crate::http::{ApiError, Call, Reply, json_reply};

/// A conversation in which something was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct FoundView {
    #[serde(flatten)]
    conversation: ConversationView,
    /// Where; left out when only the title has the words, or a message that is too new to be found: that takes seconds.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    hit: Option<MatchView>,
}

/// The newest message that has all the words, of those that are old enough to be found.
#[derive(Serialize, ToSchema)]
pub(crate) struct MatchView {
    #[schema(value_type = Uuid)]
    message_id: MessageId,
    /// At most 160 characters around the first of the words.
    snippet: String,
}

impl From<Found> for FoundView {
    fn from(Found { conversation, hit }: Found) -> Self {
        let hit = hit.map(|hit| MatchView { message_id: hit.message, snippet: hit.snippet });
        Self { conversation: conversation.into(), hit }
    }
}

/// Whether, and for what, a list of conversations is searched.
///
/// # Errors
///
/// 400 when it cannot be searched for (G8).
pub(super) fn asked(call: &Call) -> Result<Option<Query>, ApiError> {
    let Some(text) = call.query("q", "give words to search for", |text| Some(text.to_owned()))? else {
        return Ok(None);
    };
    let query = Query::parse(&text).map_err(|why| match why {
        Unsearchable::TooLittle => "`q` needs at least two letters or digits",
        Unsearchable::TooMuch => "`q` may have at most 8 different words",
    });
    query.map(Some).map_err(|why| ApiError::invalid(why).at("q"))
}

/// One page of what is found, in the order of the list.
pub(super) async fn find(system: &System, call: &Call, query: Query) -> Result<Reply, ApiError> {
    let page = PageRequest::<Activity>::by(call)?;
    let found = system.db.search(call.principal()?.user, query, page.cursor, page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<FoundView>::of(found)))
}
