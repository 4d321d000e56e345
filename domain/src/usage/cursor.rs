//! The text form of a place in a report: five parts between dots, `-` for what is not said. It needs no encoding in a URL.

use std::{fmt, str::FromStr};

use super::{Days, GroupKey};
use crate::turn::TurnStatus;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a report")]
pub struct NotACursor;

/// What stands for a part that is not said.
const NOTHING: &str = "-";

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nothing = || NOTHING.to_owned();
        let day = self.day.map_or_else(nothing, |day| day.to_string());
        let user = self.user.map_or_else(nothing, |user| user.to_string());
        let key = self.key.map_or_else(nothing, |key| key.to_string());
        let status = self.status.map_or(NOTHING, TurnStatus::as_str);
        write!(f, "{day}.{user}.{key}.{status}.")?;
        match &self.model {
            None => f.write_str(NOTHING),
            Some(model) => model.bytes().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl FromStr for GroupKey {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let parts: Vec<&str> = text.split('.').collect();
        let &[day, user, key, status, model] = parts.as_slice() else { return Err(NotACursor) };
        Ok(Self {
            day: said(day, Days::parse_day)?,
            user: said(user, |text| text.parse().ok())?,
            model: said(model, from_hex)?,
            key: said(key, |text| text.parse().ok())?,
            status: said(status, TurnStatus::parse)?,
        })
    }
}

fn said<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, NotACursor> {
    if text == NOTHING { Ok(None) } else { parse(text).map(Some).ok_or(NotACursor) }
}

fn from_hex(text: &str) -> Option<String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    // Postgres has no text with NUL.
    String::from_utf8(bytes).ok().filter(|model| !model.contains('\0'))
}
