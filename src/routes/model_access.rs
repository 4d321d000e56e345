//! Lists of models, as they are shown and set.

use domain::model_access::ModelPatterns;

use crate::http::ApiError;

/// The field that holds a list, wherever there is one.
const FIELD: &str = "models";

/// A list as it is shown; `null` where there is none.
pub(crate) fn shown(models: Option<&ModelPatterns>) -> Option<Vec<String>> {
    models.map(|patterns| patterns.iter().map(str::to_owned).collect())
}

/// Reads a list as it is set.
///
/// # Errors
///
/// 422 about the first pattern that will not do.
pub(crate) fn read(texts: &[String]) -> Result<ModelPatterns, ApiError> {
    use domain::model_access::PatternFault::{DefaultBeforeStar, NotAPattern, TooLong, TooMany};
    let words = |fault| match fault {
        TooMany => "use at most 64 patterns",
        TooLong => "use at most 128 bytes for a pattern, its tag included",
        NotAPattern => "use names of models such as `llama3.2`, or patterns such as `qwen3:*`",
        DefaultBeforeStar => "leave out the default host and namespace where `*` follows",
    };
    ModelPatterns::of(texts.iter().map(String::as_str))
        .map_err(|fault| ApiError::unfit(words(fault)).at(FIELD))
}
