//! Which models somebody may ask: lists of patterns, and who has which.
//!
//! A pattern is a canonical name ([`ModelName::canonical`](crate::model_name::ModelName::canonical)) in which `*` stands for
//! any run of characters. It is read like a name, so all spellings of a model are one: `llama3.2` is `llama3.2:latest`,
//! `qwen3:*` has all its tags. A pattern that ends in `*` before any tag has all tags of what it matches (`qwen*`, `me/*`, `*`).

use std::{fmt, sync::Arc};

use crate::{
    model_name::{CanonicalName, DEFAULT_HOST, DEFAULT_NAMESPACE, canonical_tag},
    principal::{Credential, Principal, Role},
};

/// Patterns that one list may hold.
pub const PATTERNS: usize = 64;

/// The longest pattern, in bytes, as it is written and as it is kept.
pub const PATTERN_BYTES: usize = 128;

/// Bytes of one list as the audit trail tells it; what is longer is cut.
const TOLD_BYTES: usize = 500;

/// A list of patterns; a name is in it that matches one of them. Empty: no name is. Cheap to clone.
///
/// Kept as the one text that is stored, comma-separated: caches hold many.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelPatterns(Arc<str>);

/// Why a text is no list of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    #[error("use at most 64 patterns")]
    TooMany,
    #[error("use at most 128 bytes for a pattern")]
    TooLong,
    #[error("use names of models such as llama3.2, or patterns such as qwen3:*")]
    NotAPattern,
    /// Canonical names do not have them, so the pattern would match more than it says.
    #[error("leave out the default host and namespace where `*` follows")]
    DefaultBeforeStar,
}

impl ModelPatterns {
    /// Every model.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// No model.
    pub fn none() -> Self {
        Self(Arc::default())
    }

    /// Reads patterns as people write them; one that is there already counts once.
    ///
    /// # Errors
    ///
    /// What is wrong with the first that will not do.
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, PatternFault> {
        let mut patterns: Vec<String> = Vec::new();
        for text in texts {
            let pattern = canonical_pattern(text)?;
            if patterns.contains(&pattern) {
                continue;
            }
            if patterns.len() == PATTERNS {
                return Err(PatternFault::TooMany);
            }
            patterns.push(pattern);
        }
        Ok(Self(patterns.join(",").into()))
    }

    /// Reads what [`fmt::Display`] wrote.
    ///
    /// # Errors
    ///
    /// It did not write this.
    pub fn parse(text: &str) -> Result<Self, PatternFault> {
        if text.is_empty() { Ok(Self::none()) } else { Self::of(text.split(',')) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').filter(|pattern| !pattern.is_empty())
    }

    /// Whether one of them matches the name, in time linear in the lengths of both.
    pub fn allow(&self, name: &CanonicalName) -> bool {
        self.iter().any(|pattern| matches(pattern, name.as_str()))
    }
}

/// As it is stored: `qwen3:*,llama3.2:latest`.
impl fmt::Display for ModelPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// The lists of those who were given none of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleModels {
    pub users: ModelPatterns,
    pub admins: ModelPatterns,
}

impl Default for RoleModels {
    fn default() -> Self {
        Self { users: ModelPatterns::all(), admins: ModelPatterns::all() }
    }
}

impl RoleModels {
    /// Whether `principal` may ask the model: their own list has it, or in its absence their role's, and so has their key's, if
    /// it has one.
    pub fn allow(&self, principal: &Principal, model: &CanonicalName) -> bool {
        let by_role = match principal.role {
            Role::User => &self.users,
            Role::Admin => &self.admins,
        };
        let by_key = match &principal.credential {
            Credential::Session(_) => None,
            Credential::Key { models, .. } => models.as_ref(),
        };
        principal.models.as_ref().unwrap_or(by_role).allow(model)
            && by_key.is_none_or(|patterns| patterns.allow(model))
    }
}

/// What is no longer as it was `before`, for the audit trail (`models none to qwen3:*`); `None` when all is. No list is told as
/// `none`, an empty one as `[]`.
pub fn told_since(before: Option<&ModelPatterns>, now: Option<&ModelPatterns>) -> Option<String> {
    let text = |list: Option<&ModelPatterns>| match list {
        None => "none".to_owned(),
        Some(list) if list.0.is_empty() => "[]".to_owned(),
        Some(list) => {
            let mut text = list.to_string();
            if text.len() > TOLD_BYTES {
                // Patterns are ASCII.
                text.truncate(TOLD_BYTES);
                text.push('…');
            }
            text
        }
    };
    (before != now).then(|| format!("models {} to {}", text(before), text(now)))
}

fn canonical_pattern(text: &str) -> Result<String, PatternFault> {
    let text = text.trim();
    if text.len() > PATTERN_BYTES {
        return Err(PatternFault::TooLong);
    }
    let lower = text.to_ascii_lowercase();
    let (path, tag) = lower.split_once(':').map_or((&*lower, None), |(path, tag)| (path, Some(tag)));
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*'))
            && !part.contains("..")
    };
    let starts_well = lower.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'*');
    if !starts_well || !path.split('/').all(plain) || !tag.is_none_or(plain) {
        return Err(PatternFault::NotAPattern);
    }
    let stripped = path.strip_prefix(DEFAULT_HOST).unwrap_or(path);
    let stripped = stripped.strip_prefix(DEFAULT_NAMESPACE).unwrap_or(stripped);
    let first = stripped.split('/').next().unwrap_or(stripped);
    if stripped.len() < path.len() && first.contains('*') {
        return Err(PatternFault::DefaultBeforeStar);
    }
    let pattern = match tag {
        None if stripped.ends_with('*') => stripped.to_owned(),
        tag => format!("{stripped}:{}", canonical_tag(tag)),
    };
    if pattern.len() > PATTERN_BYTES { Err(PatternFault::TooLong) } else { Ok(pattern) }
}

/// The texts between the stars are looked for one after another, each where it is first found: a later place could only leave
/// less room for the rest. So nothing is ever tried twice.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut name) = name.strip_suffix(last) else { return false };
    for text in between.split('*') {
        let Some(at) = name.find(text) else { return false };
        name = &name[at + text.len()..];
    }
    true
}

#[cfg(test)]
mod tests;
