//! Names that an operator gives to models, each with others to fall back to.
//!
//! ```text
//! fast = qwen3:8b then llama3.2, smart = gpt-oss:120b
//! ```
//!
//! An alias stands before a model of the same name, which then can only be asked by way of aliases: what a name means is the
//! operator's word, whatever is pulled onto a server later.

use std::collections::BTreeMap;

use crate::model_name::{CanonicalName, ModelName};

/// Aliases there may be.
pub const ALIASES: usize = 256;

/// Models that one alias may stand for.
pub const TARGETS: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// As the operator spells it.
    pub name: ModelName,
    /// Models, the preferred one first; at least one, none of them an alias.
    pub targets: Vec<CanonicalName>,
}

/// By their canonical names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aliases(BTreeMap<CanonicalName, Alias>);

/// Why a text tells no aliases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasFault {
    #[error("contains {0:?}, which is no alias")]
    NotAnAlias(String),
    #[error("contains {0:?}, which is no model's name")]
    NotAModel(String),
    #[error("names {0} twice")]
    Twice(CanonicalName),
    #[error("has {0} stand for {1}, which is an alias itself")]
    OfAnAlias(CanonicalName, CanonicalName),
    #[error("has {0} stand for too many models, or for one twice")]
    Targets(CanonicalName),
    /// Such a name says that the prompt leaves the machine.
    #[error("names an alias {0}, which is a cloud model's name")]
    Cloud(CanonicalName),
    #[error("has too many aliases")]
    TooMany,
}

impl Aliases {
    /// Reads `NAME = MODEL then MODEL …`, comma-separated.
    ///
    /// # Errors
    ///
    /// What is wrong with the first of them that will not do.
    pub fn parse(text: &str) -> Result<Self, AliasFault> {
        let mut aliases = BTreeMap::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, targets) =
                item.split_once('=').ok_or_else(|| AliasFault::NotAnAlias(item.to_owned()))?;
            let name = ModelName::parse(name).map_err(|_| AliasFault::NotAModel(name.trim().to_owned()))?;
            let canonical = name.canonical();
            if canonical.is_cloud() {
                return Err(AliasFault::Cloud(canonical));
            }
            let targets = targets_of(&canonical, item, targets)?;
            if aliases.insert(canonical.clone(), Alias { name, targets }).is_some() {
                return Err(AliasFault::Twice(canonical));
            }
            if aliases.len() > ALIASES {
                return Err(AliasFault::TooMany);
            }
        }
        // So there are no circles either.
        for (name, alias) in &aliases {
            if let Some(target) = alias.targets.iter().find(|target| aliases.contains_key(*target)) {
                return Err(AliasFault::OfAnAlias(name.clone(), target.clone()));
            }
        }
        Ok(Self(aliases))
    }

    pub fn get(&self, name: &CanonicalName) -> Option<&Alias> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&CanonicalName, &Alias)> {
        self.0.iter()
    }
}

fn targets_of(alias: &CanonicalName, item: &str, text: &str) -> Result<Vec<CanonicalName>, AliasFault> {
    let mut targets = Vec::new();
    for (n, word) in text.split_whitespace().enumerate() {
        match (n % 2, word) {
            (0, word) => {
                let target = ModelName::parse(word).map_err(|_| AliasFault::NotAModel(word.to_owned()))?;
                let target = target.canonical();
                if targets.len() == TARGETS || targets.contains(&target) {
                    return Err(AliasFault::Targets(alias.clone()));
                }
                targets.push(target);
            }
            (_, "then") => {}
            _ => return Err(AliasFault::NotAnAlias(item.to_owned())),
        }
    }
    // A `then` is between two.
    if targets.is_empty() || text.split_whitespace().count().is_multiple_of(2) {
        return Err(AliasFault::NotAnAlias(item.to_owned()));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CanonicalName {
        ModelName::parse(text).unwrap().canonical()
    }

    #[test]
    fn aliases_stand_for_models_in_order_whatever_their_spelling() {
        let aliases = Aliases::parse("Fast = QWEN3:8b then library/llama3.2, smart=gpt-oss:120b ,").unwrap();
        let fast = aliases.get(&name("fast:latest")).unwrap();
        assert_eq!((fast.name.as_str(), &*fast.targets), ("Fast", &[name("qwen3:8b"), name("llama3.2")][..]));
        let names: Vec<_> = aliases.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["fast:latest", "smart:latest"]);
        assert_eq!(aliases.get(&name("qwen3:8b")), None);
        assert_eq!(Aliases::parse(""), Ok(Aliases::default()));
    }

    #[test]
    fn what_is_no_alias_is_refused_with_what_is_wrong() {
        for (text, wrong) in [
            ("fast", "contains \"fast\", which is no alias"),
            ("fast =", "contains \"fast =\", which is no alias"),
            ("fast = a then", "contains \"fast = a then\", which is no alias"),
            ("fast = a or b", "contains \"fast = a or b\", which is no alias"),
            ("fast = a b", "contains \"fast = a b\", which is no alias"),
            ("../x = a", "contains \"../x\", which is no model's name"),
            ("fast = a/../b", "contains \"a/../b\", which is no model's name"),
            ("fast = a, FAST:latest = b", "names fast:latest twice"),
            ("fast = a then A:latest", "has fast:latest stand for too many models, or for one twice"),
            (
                "fast = a then b then c then d then e then f then g then h then i",
                "has fast:latest stand for too many",
            ),
            ("x:cloud = a", "names an alias x:cloud, which is a cloud model's name"),
        ] {
            let fault = Aliases::parse(text).unwrap_err().to_string();
            assert!(fault.starts_with(wrong), "{text}: {fault}");
        }
        let many = |count| (0..count).map(|n| format!("a{n} = m,")).collect::<String>();
        assert!(Aliases::parse(&many(256)).is_ok());
        assert_eq!(Aliases::parse(&many(257)), Err(AliasFault::TooMany));
    }

    #[test]
    fn no_alias_stands_for_an_alias_so_there_are_no_circles() {
        for text in ["a = a", "a = b, b = a", "a = m then b, b = c", "a = b, b = c, c = a"] {
            assert!(matches!(Aliases::parse(text), Err(AliasFault::OfAnAlias(..))), "{text}");
        }
    }
}
