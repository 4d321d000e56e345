//! The document as HTML: a list of all that can be asked, a chapter for each group, and the shapes that these name.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use super::shape::{fields, kind};

/// Text between tags or in quotes.
pub(super) struct Escaped<'t>(pub(super) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A description: what stands between backticks is code.
pub(super) fn note(text: &Value) -> String {
    let text = Escaped(text.as_str().unwrap_or_default()).to_string();
    let mut out = String::with_capacity(text.len());
    for (at, piece) in text.split('`').enumerate() {
        let (open, close) = if at % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
        out += open;
        out += piece;
        out += close;
    }
    out
}

/// An operation, where it is, and what it is called.
struct Entry<'d> {
    method: &'d str,
    path: &'d str,
    operation: &'d Value,
}

impl Entry<'_> {
    fn id(&self) -> &str {
        self.operation["operationId"].as_str().unwrap_or_default()
    }

    fn tag(&self) -> &str {
        self.operation["tags"][0].as_str().unwrap_or_default()
    }
}

/// In the order in which somebody new would ask.
const TAGS: [&str; 11] = [
    "auth",
    "api keys",
    "models",
    "chat",
    "conversations",
    "openai",
    "anthropic",
    "ollama",
    "usage",
    "admin",
    "operations",
];

pub(super) fn page(document: &Value, style: &str) -> String {
    let entries: Vec<_> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(path, item)| {
            let operations = item.as_object().into_iter().flatten();
            operations.map(move |(method, operation)| Entry { method, path, operation })
        })
        .collect();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>DeeperSensor</title>\n<style>{style}</style>\n<h1>DeeperSensor {}</h1>\n\
         <p>{}. The same for programs: <a href=\"openapi.json\">openapi.json</a>.</p>\n",
        Escaped(document["info"]["version"].as_str().unwrap_or_default()),
        note(&document["info"]["description"])
    );
    let of = |tag: &'static str| entries.iter().filter(move |entry| entry.tag() == tag);
    out += "<nav>\n";
    for tag in TAGS {
        let _ = writeln!(out, "<ul><li><strong>{tag}</strong></li>");
        for entry in of(tag) {
            let (id, path) = (Escaped(entry.id()), Escaped(entry.path));
            let _ = writeln!(out, "<li><a href=\"#{id}\"><code>{} {path}</code></a></li>", entry.method);
        }
        out += "</ul>\n";
    }
    out += "</nav>\n";
    everywhere(document, &mut out);
    for tag in TAGS {
        let _ = writeln!(out, "<h2>{tag}</h2>");
        of(tag).for_each(|entry| show(entry, &mut out));
    }
    out += "<h2>Shapes</h2>\n";
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = writeln!(
            out,
            "<h3 id=\"schema-{0}\">{0}</h3>\n<p>{1}</p>",
            Escaped(name),
            note(&schema["description"])
        );
        let mut rows = String::new();
        fields(schema, &mut rows);
        if rows.is_empty() {
            let _ = writeln!(out, "<p class=\"type\">{}</p>", kind(schema));
        } else {
            let _ = writeln!(out, "<table>\n{rows}</table>");
        }
    }
    out
}

/// What need not be said of each operation.
fn everywhere(document: &Value, out: &mut String) {
    let components = &document["components"];
    *out += "<h2>Everywhere</h2>\n<p>Who asks shows an access token or an API key as <code>Authorization: Bearer …</code>, or \
             a key as <code>X-Api-Key</code>. Any request may be refused with these statuses, in the shape of its path: ";
    let shapes = ["ErrorBody", "AnthropicErrorBody", "OllamaErrorBody"];
    let links = shapes.map(|name| format!("<a href=\"#schema-{name}\">{name}</a>"));
    *out += &links.join(", ");
    *out += ".</p>\n<table>\n";
    for (name, response) in components["responses"].as_object().into_iter().flatten() {
        if !name.contains('.') {
            let status = status_of(document, name);
            let _ = writeln!(out, "<tr><td>{status}</td><td>{}</td></tr>", note(&response["description"]));
        }
    }
    *out += "</table>\n<p>Headers of requests and of replies:</p>\n<table>\n";
    for group in ["parameters", "headers"] {
        for (name, header) in components[group].as_object().into_iter().flatten() {
            let name = Escaped(name);
            let _ = writeln!(
                out,
                "<tr><td><code>{name}</code></td><td>{}</td></tr>",
                note(&header["description"])
            );
        }
    }
    *out += "</table>\n";
}

/// Under which status operations refer to a shared response.
fn status_of<'d>(document: &'d Value, name: &str) -> &'d str {
    let pointer = format!("#/components/responses/{name}");
    let items = document["paths"].as_object().into_iter().flatten().flat_map(|(_, item)| item.as_object());
    let responses = items.flatten().filter_map(|(_, operation)| operation["responses"].as_object());
    let named = responses.flatten().find(|(_, response)| response["$ref"] == pointer.as_str());
    named.map_or("", |(status, _)| status)
}

fn show(entry: &Entry<'_>, out: &mut String) {
    let Entry { method, path, operation } = entry;
    let access = operation["x-access"].as_str().unwrap_or_default();
    let _ = writeln!(
        out,
        "<h3 id=\"{}\"><span class=\"method\">{method}</span> <code>{}</code> <span class=\"access\">{}</span></h3>\n\
         <p>{} {}</p>",
        Escaped(entry.id()),
        Escaped(path),
        Escaped(access),
        note(&operation["summary"]),
        note(&operation["description"])
    );
    let own = operation["parameters"].as_array().into_iter().flatten().filter(|one| one["name"].is_string());
    let mut rows = String::new();
    for parameter in own {
        let name = Escaped(parameter["name"].as_str().unwrap_or_default());
        let _ = writeln!(
            rows,
            "<tr><td><code>{name}</code> <span class=\"also\">{}</span></td><td><span class=\"type\">{}</span> {}</td></tr>",
            parameter["in"].as_str().unwrap_or_default(),
            kind(&parameter["schema"]),
            note(&parameter["description"])
        );
    }
    if !rows.is_empty() {
        let _ = writeln!(out, "<h4>Parameters</h4>\n<table>\n{rows}</table>");
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let _ = writeln!(out, "<h4>Body</h4>\n<p>{}</p>", contents(content));
    }
    *out += "<h4>Replies</h4>\n<table>\n";
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if response["$ref"].is_string() {
            continue;
        }
        let content = response["content"].as_object().map(contents).unwrap_or_default();
        let _ =
            writeln!(out, "<tr><td>{status}</td><td>{} {content}</td></tr>", note(&response["description"]));
    }
    *out += "</table>\n";
}

fn contents(content: &Map<String, Value>) -> String {
    let one = |(media_type, content): (&String, &Value)| {
        let (kind, media_type) = (kind(&content["schema"]), Escaped(media_type));
        format!("<span class=\"type\">{kind} as <code>{media_type}</code></span>")
    };
    content.iter().map(one).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_says_is_text_on_the_page() {
        assert_eq!(Escaped("<a href=\"x\">&").to_string(), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(note(&Value::from("give `a<b`, or not")), "give <code>a&lt;b</code>, or not");
    }

    #[test]
    fn the_page_shows_each_operation_once_and_all_its_links_lead_somewhere() {
        let document: Value = serde_json::from_str(&crate::openapi()).unwrap();
        let page = page(&document, "");
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let mark = format!("<h3 id={}>", operation["operationId"]);
                assert_eq!(page.matches(&mark).count(), 1, "{mark}");
            }
        }
        for link in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
        }
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
        assert!(!page.contains("<tr><td></td>"), "a refusal that nobody refers to");
    }
}
