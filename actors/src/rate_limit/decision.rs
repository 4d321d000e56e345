//! What the limiter answers: what each bucket that was asked said, and which of them decided.

use std::cmp::Reverse;

use domain::quota::Verdict;

/// What a bucket counts, and for whom; names the policy in the `RateLimit` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Address,
    User,
    /// The own quota of an API key.
    Key,
    /// The turns of one user with one model.
    Model,
    /// The tokens of a user.
    Tokens,
    /// The tokens that an API key has for itself.
    KeyTokens,
    LogIn,
    SignUp,
}

impl Scope {
    pub(super) const ALL: [Self; 8] = [
        Self::Address,
        Self::User,
        Self::Key,
        Self::Model,
        Self::Tokens,
        Self::KeyTokens,
        Self::LogIn,
        Self::SignUp,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::Key => "key",
            Self::Model => "model",
            Self::Tokens => "tokens",
            Self::KeyTokens => "key_tokens",
            Self::LogIn => "log_in",
            Self::SignUp => "sign_up",
        }
    }

    /// Whether its permits are tokens rather than requests.
    pub const fn counts_tokens(self) -> bool {
        matches!(self, Self::Tokens | Self::KeyTokens)
    }

    /// Whether its keys are addresses, of which anybody may have many.
    pub(super) const fn is_of_addresses(self) -> bool {
        matches!(self, Self::Address | Self::LogIn | Self::SignUp)
    }
}

/// What one bucket said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub scope: Scope,
    pub verdict: Verdict,
}

/// The answer of the limiter: the verdict of the bucket that binds, and whose it was. That is the refusal with the longest
/// wait, else the bucket with the smallest part left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub scope: Scope,
    pub verdict: Verdict,
    /// What the other buckets that were asked said, in the order of their scopes. One that would have let a refused
    /// question pass tells what it still holds.
    others: Vec<Said>,
}

impl From<Said> for Decision {
    fn from(Said { scope, verdict }: Said) -> Self {
        Self { scope, verdict, others: Vec::new() }
    }
}

impl Decision {
    /// `said` in the order of their scopes; `None` when nobody said anything.
    pub fn of(mut said: Vec<Said>) -> Option<Self> {
        let binding = (0..said.len()).min_by_key(|at| tightness(&said[*at].verdict))?;
        let Said { scope, verdict } = said.remove(binding);
        Some(Self { scope, verdict, others: said })
    }

    /// What the bucket that binds said.
    pub const fn binding(&self) -> Said {
        Said { scope: self.scope, verdict: self.verdict }
    }

    /// All that was said, in the order of the scopes.
    pub fn said(&self) -> impl Iterator<Item = Said> {
        let at = self.others.partition_point(|other| other.scope < self.scope);
        let (before, after) = self.others.split_at(at);
        before.iter().copied().chain([self.binding()]).chain(after.iter().copied())
    }

    /// What the bucket said that binds among those that count requests.
    pub fn tightest_of_requests(&self) -> Option<Said> {
        self.tightest(|scope| !scope.counts_tokens())
    }

    /// What the bucket said that binds among those that count tokens.
    pub fn tightest_of_tokens(&self) -> Option<Said> {
        self.tightest(Scope::counts_tokens)
    }

    fn tightest(&self, is_meant: impl Fn(Scope) -> bool) -> Option<Said> {
        self.said().filter(|said| is_meant(said.scope)).min_by_key(|said| tightness(&said.verdict))
    }
}

/// The least is the tightest. What is left is compared as a part of the burst, since tokens are many and requests few.
fn tightness(verdict: &Verdict) -> impl Ord + use<> {
    let part_left = (u64::from(verdict.remaining) << 32) / u64::from(verdict.quota.burst.max(1));
    (verdict.allowed, Reverse(verdict.retry_after), part_left)
}
