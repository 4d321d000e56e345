//! The demo's tour: what any client would do first, over HTTP, in front of the reader's eyes.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{DemoArgs, user};
use crate::{
    app::App,
    cli::{
        client::{Client, Events},
        local,
        terminal::{Terminal, harmless},
    },
};

const DEADLINE: Duration = Duration::from_secs(10);

/// Between two pieces of the chat: an Ollama model may have to be loaded first.
const CHAT_DEADLINE: Duration = Duration::from_secs(600);

/// How long the catalogue may take to know the model, and how often it is asked.
const CATALOGUE_MAX: Duration = Duration::from_secs(10);
const CATALOGUE_EVERY: Duration = Duration::from_millis(200);

/// Signs in, lists models, streams one chat, and shows how to go on.
pub(crate) async fn run(
    app: &App,
    args: &DemoArgs,
    data_dir: &Path,
    terminal: Terminal,
) -> anyhow::Result<()> {
    let address = local(app.addr());
    let client = Client::new(address, DEADLINE);
    let fact =
        |name: &str, value: &str| terminal.line(format!("  {}  {value}", terminal.dim(&format!("{name:8}"))));

    terminal.line(format!("\n{}\n", terminal.bold("deepersensor demo")))?;
    fact("address", &format!("http://{address}"))?;
    fact("data", &data_dir.display().to_string())?;
    let user = user::load_or_create(data_dir)?;
    let token = sign_in(&client, &user).await?;
    fact("user", user["email"].as_str().unwrap_or_default())?;
    let client = client.with_token(&token);
    let models = models(&client, &args.model).await?;
    fact("models", &models.join(", "))?;

    chat(&Client::new(address, CHAT_DEADLINE).with_token(&token), args, terminal).await?;
    terminal.write(next_steps(app, args, data_dir, terminal))?;
    Ok(())
}

/// Logs in, signing up first where the store does not know the user.
async fn sign_in(client: &Client, user: &Value) -> anyhow::Result<String> {
    let mut reply = client.post("/v1/auth/login", user).await?;
    if reply.status == StatusCode::UNAUTHORIZED {
        client.post("/v1/auth/signup", user).await?.json().context("cannot sign up")?;
        reply = client.post("/v1/auth/login", user).await?;
    }
    let tokens = reply.json().context("cannot log in")?;
    tokens["access_token"].as_str().map(str::to_owned).context("the log-in brought no access token")
}

/// The names of all models, once `wanted` is among them.
async fn models(client: &Client, wanted: &str) -> anyhow::Result<Vec<String>> {
    let patience = Instant::now() + CATALOGUE_MAX;
    let mut ticks = interval(CATALOGUE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let list = client.get("/v1/models").await?.json().context("cannot list the models")?;
        let names: Vec<String> = list["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|model| model["id"].as_str().map(harmless))
            .collect();
        if names.iter().any(|name| name == wanted || name.strip_suffix(":latest") == Some(wanted)) {
            return Ok(names);
        }
        if Instant::now() > patience {
            bail!("there is no model {wanted:?}, only: {}", names.join(", "));
        }
    }
}

/// Streams one chat into the terminal, token by token.
async fn chat(client: &Client, args: &DemoArgs, terminal: Terminal) -> anyhow::Result<()> {
    terminal.line(format!("\n{} {}\n", terminal.dim("you ›"), args.prompt))?;
    terminal.write(format!("{} ", terminal.dim("model ›")))?;
    let started = Instant::now();
    let mut first = None;
    let stream = client.open(Method::POST, "/v1/chat/stream", Some(&body(args))).await?;
    if !stream.status().is_success() {
        stream.into_reply().await?.json()?;
        return Ok(());
    }
    let mut events = Events::new(stream);
    while let Some(sent) = events.next().await? {
        let data: Value = serde_json::from_str(&sent.data).context("an event is not JSON")?;
        match sent.event.as_str() {
            "chunk" => {
                first.get_or_insert_with(|| started.elapsed());
                terminal.write(harmless(data["content"].as_str().unwrap_or_default()))?;
            }
            "done" => {
                let tokens = data["usage"]["completion_tokens"].as_u64().unwrap_or_default();
                let note = format!(
                    "{tokens} tokens in {:.1} s, the first after {:.0} ms",
                    started.elapsed().as_secs_f64(),
                    first.unwrap_or_default().as_secs_f64() * 1e3
                );
                return Ok(terminal.line(format!("\n\n{}", terminal.dim(&note)))?);
            }
            "error" => {
                let message = data["error"]["message"].as_str().unwrap_or("no reason was given");
                bail!("the chat failed: {}", harmless(message));
            }
            _ => {}
        }
    }
    bail!("the stream ended without its last event")
}

fn body(args: &DemoArgs) -> Value {
    json!({ "model": args.model, "messages": [{ "role": "user", "content": args.prompt }] })
}

/// Lines to copy: they work as they stand, in any shell of this directory.
fn next_steps(app: &App, args: &DemoArgs, data_dir: &Path, terminal: Terminal) -> String {
    let base = format!("http://{}", local(app.addr()));
    let json = "-H 'Content-Type: application/json'";
    let bearer = "-H \"Authorization: Bearer $TOKEN\"";
    let signup = json!({ "email": "you@example.org", "password": "four words, your own" });
    let chat = quoted(&body(args).to_string());
    let user = quoted(&format!("@{}", user::path(data_dir).display()));
    let step =
        |title: &str, command: String| format!("  {}\n  {command}\n\n", terminal.dim(&format!("# {title}")));
    [
        format!("\n{}\n\n", terminal.bold("Try it yourself")),
        step("sign up", format!("curl -s {base}/v1/auth/signup {json} -d {}", quoted(&signup.to_string()))),
        step(
            "log in as the demo's user",
            format!(
                "TOKEN=$(curl -s {base}/v1/auth/login {json} -d {user} | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
            ),
        ),
        step("list models", format!("curl -s {base}/v1/models {bearer}")),
        step("stream a chat", format!("curl -sN {base}/v1/chat/stream {bearer} {json} -d {chat}")),
        step("watch the actors", format!("curl -s http://{}/actors", app.ops_addr())),
        step(
            "make an administrator",
            format!(
                "DATA_DIR={} deepersensor admin create --email root@example.org",
                word(&data_dir.display().to_string())
            ),
        ),
        "Serving until Ctrl-C.\n".to_owned(),
    ]
    .concat()
}

/// Like [`quoted`], without quotes where the shell needs none.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { quoted(text) }
}

/// One word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{quoted, word};

    #[test]
    fn a_quoted_word_survives_the_shell() {
        let word = r#"{"a":"it's $HOME `x`"}"#;
        let out =
            std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output();
        assert_eq!(String::from_utf8(out.unwrap().stdout).unwrap(), word);
    }

    #[test]
    fn only_a_word_that_needs_quotes_gets_them() {
        assert_eq!(word("./data/demo"), "./data/demo");
        assert_eq!(word("./my data"), "'./my data'");
    }
}
