//! Which of the tools a model may, or has to, call. Model servers are told what tools there are and little else, so a choice
//! narrows these.

use domain::chat::ToolChoice;
use serde_json::Value;

use crate::http::ApiError;

/// What a request says of its tools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Choice {
    /// As the model sees fit.
    #[default]
    Auto,
    None,
    /// Any of them, but one at least.
    Required,
    /// These only.
    Of {
        names: Vec<String>,
        is_required: bool,
    },
}

/// The tools that are left to call, and whether the model has to.
///
/// # Errors
///
/// 400 naming `param` when a tool is demanded or named that is not there.
pub(crate) fn choose(
    choice: Choice,
    mut tools: Vec<Value>,
    param: &'static str,
) -> Result<(Vec<Value>, ToolChoice), ApiError> {
    let (names, is_required) = match choice {
        Choice::Auto => return Ok((tools, ToolChoice::Auto)),
        Choice::None => return Ok((Vec::new(), ToolChoice::Auto)),
        Choice::Required if tools.is_empty() => {
            return Err(ApiError::invalid("a tool is to be called, and there is none in `tools`").at(param));
        }
        Choice::Required => return Ok((tools, ToolChoice::Required)),
        Choice::Of { names, is_required } => (names, is_required),
    };
    if names.iter().any(|name| !tools.iter().any(|tool| name_of(tool) == Some(name))) {
        return Err(ApiError::invalid("this names a function that is not in `tools`").at(param));
    }
    tools.retain(|tool| name_of(tool).is_some_and(|name| names.iter().any(|chosen| chosen == name)));
    let choice = if is_required && !tools.is_empty() { ToolChoice::Required } else { ToolChoice::Auto };
    Ok((tools, choice))
}

/// The name of a function's definition.
fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Value> {
        ["a", "b", "c"].map(|name| json!({"type": "function", "function": {"name": name}})).to_vec()
    }

    fn chosen(choice: Choice) -> Option<(String, ToolChoice)> {
        let (left, choice) = choose(choice, tools(), "tool_choice").ok()?;
        Some((left.iter().filter_map(name_of).collect(), choice))
    }

    fn of(names: &[&str], is_required: bool) -> Choice {
        Choice::Of { names: names.iter().map(|&name| name.to_owned()).collect(), is_required }
    }

    #[test]
    fn a_choice_narrows_the_tools_and_names_only_what_is_there() {
        let (auto, required) = (ToolChoice::Auto, ToolChoice::Required);
        assert_eq!(chosen(Choice::Auto), Some(("abc".to_owned(), auto)));
        assert_eq!(chosen(Choice::None), Some((String::new(), auto)));
        assert_eq!(chosen(Choice::Required), Some(("abc".to_owned(), required)));
        assert_eq!(chosen(of(&["b"], true)), Some(("b".to_owned(), required)));
        assert_eq!(chosen(of(&["c", "a"], false)), Some(("ac".to_owned(), auto)));
        assert_eq!(chosen(of(&[], true)), Some((String::new(), auto)));
        assert_eq!(chosen(of(&["a", "x"], true)), None);
        let refused = choose(Choice::Required, Vec::new(), "tool_choice").unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.object("r").param), (400, Some("tool_choice")));
    }
}
