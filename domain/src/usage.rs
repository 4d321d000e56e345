//! Usage: what turns took, one by one as the ledger has them and added up in groups.
//!
//! Days are UTC days, so each has 24 hours. A turn counts whole on the day on which it began.

mod cursor;
mod days;
mod tally;
#[cfg(test)]
mod tests;

use std::fmt;

use chrono::NaiveDate;

use crate::{
    id::{ApiKeyId, ConversationId, UserId},
    turn::{StoredTurn, TurnStatus},
};

pub use self::{
    cursor::NotACursor,
    days::{BadDays, DAYS_DEFAULT, DAYS_MAX, Days},
    tally::{Mean, Outcomes, Sources, Tally},
};

/// The most groups of one page.
pub const GROUPS_MAX: u32 = 1_000;
/// The most groups of a report that is asked for whole.
pub const WHOLE_GROUPS_MAX: u32 = 10_000;

/// What turns can be told apart by; groups are sorted by them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Day,
    User,
    Model,
    Key,
    Status,
}

/// What a report groups by; nothing: all is one group.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Dimensions(u8);

/// Which turns a report adds up, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    pub days: Days,
    pub by: Dimensions,
    /// `None`: of all accounts, deleted ones too.
    pub user: Option<UserId>,
    /// By its canonical name.
    pub model: Option<String>,
    pub key: Option<ApiKeyId>,
}

/// What the turns of a group have in common. What the report does not group by is `None`; so is the key of turns that
/// were asked for in a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupKey {
    pub day: Option<NaiveDate>,
    pub user: Option<UserId>,
    pub model: Option<String>,
    pub key: Option<ApiKeyId>,
    pub status: Option<TurnStatus>,
}

/// A group, and the names of what it is told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageGroup {
    pub of: GroupKey,
    /// `None` for a deleted account.
    pub email: Option<String>,
    /// Also of a revoked key; `None` for one of a deleted account.
    pub key_name: Option<String>,
    pub tally: Tally,
}

/// A page of groups, and the sum over those of all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    pub groups: Vec<UsageGroup>,
    /// The last group of this page, where there are more.
    pub next: Option<GroupKey>,
    pub total: Tally,
}

/// Which of a caller's turns are listed; `None` lets everything through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerFilter {
    /// By its canonical name.
    pub model: Option<String>,
    pub status: Option<TurnStatus>,
    pub conversation: Option<ConversationId>,
}

/// One row of the ledger, as its owner reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEntry {
    pub turn: StoredTurn,
    /// The key that asked; `None`: a session.
    pub key: Option<ApiKeyId>,
    pub key_name: Option<String>,
}

impl Dimension {
    pub const ALL: [Self; 5] = [Self::Day, Self::User, Self::Model, Self::Key, Self::Status];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::User => "user",
            Self::Model => "model",
            Self::Key => "key",
            Self::Status => "status",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Dimensions {
    pub const fn contains(self, dimension: Dimension) -> bool {
        self.0 & dimension.bit() != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Dimension> {
        Dimension::ALL.into_iter().filter(move |dimension| self.contains(*dimension))
    }

    /// Reads one or several, separated by commas; `None` when one of them is none.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(Dimension::parse).collect()
    }
}

impl FromIterator<Dimension> for Dimensions {
    fn from_iter<I: IntoIterator<Item = Dimension>>(dimensions: I) -> Self {
        Self(dimensions.into_iter().fold(0, |bits, dimension| bits | dimension.bit()))
    }
}

impl fmt::Debug for Dimensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl GroupKey {
    /// Whether it can be a group of a report that groups by these.
    pub fn fits(&self, by: Dimensions) -> bool {
        let said = [
            (Dimension::Day, self.day.is_some()),
            (Dimension::User, self.user.is_some()),
            (Dimension::Model, self.model.is_some()),
            (Dimension::Status, self.status.is_some()),
        ];
        said.into_iter().all(|(dimension, is_said)| by.contains(dimension) == is_said)
            && (by.contains(Dimension::Key) || self.key.is_none())
    }
}
