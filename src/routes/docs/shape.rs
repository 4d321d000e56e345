//! Schemas in a few words.

use serde_json::Value;

use super::page::{Escaped, note};

const SCHEMAS: &str = "#/components/schemas/";

/// What a schema is called, with a link where it has a chapter of its own: `string (uuid)`, `array of Message`, `integer, 1 to 20`.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|pointer| pointer.strip_prefix(SCHEMAS)) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", Escaped(name));
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> =
            words.iter().map(|word| format!("<code>{}</code>", Escaped(&word.to_string()))).collect();
        return words.join(" | ");
    }
    if let Some(choice) = ["oneOf", "anyOf"].iter().find_map(|name| schema[name].as_array()) {
        return choice.iter().map(kind).collect::<Vec<_>>().join(" | ");
    }
    let names = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        _ if schema["allOf"].is_array() => "object".to_owned(),
        _ => "anything".to_owned(),
    };
    let items =
        if schema["items"].is_object() { format!(" of {}", kind(&schema["items"])) } else { String::new() };
    let format = schema["format"].as_str().filter(|format| !format.starts_with("int"));
    let format = format.map(|format| format!(" ({})", Escaped(format))).unwrap_or_default();
    format!("{names}{items}{format}{}", bounds(schema))
}

fn bounds(schema: &Value) -> String {
    let of = |least: &str, most: &str, what: &str| {
        let (least, most) = (&schema[least], &schema[most]);
        match (least.is_number(), most.is_number()) {
            (true, true) => format!(", {least} to {most}{what}"),
            (true, false) if *least != 0 => format!(", at least {least}{what}"),
            (false, true) => format!(", at most {most}{what}"),
            _ => String::new(),
        }
    };
    let values = of("minimum", "maximum", "");
    values + &of("minLength", "maxLength", " characters") + &of("minItems", "maxItems", " items")
}

/// The fields of an object, those of all its parts.
pub(super) fn fields(schema: &Value, out: &mut String) {
    for part in schema["allOf"].as_array().into_iter().flatten() {
        match part["$ref"].as_str() {
            Some(_) => out.push_str(&format!("<tr><td>…</td><td>the fields of {}</td></tr>\n", kind(part))),
            None => fields(part, out),
        }
    }
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let also =
            if required.contains(&name.as_str()) { "" } else { " <span class=\"also\">optional</span>" };
        out.push_str(&format!(
            "<tr><td><code>{}</code>{also}</td><td><span class=\"type\">{}</span> {}</td></tr>\n",
            Escaped(name),
            kind(field),
            note(&field["description"])
        ));
    }
}
